import { createHash } from 'node:crypto'

/** A Lua script, sent by its digest. */
export interface RedisScript {
  readonly source: string
  readonly sha: string
}

export function script(source: string): RedisScript {
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}
