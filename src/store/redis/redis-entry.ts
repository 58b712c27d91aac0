import type { EventKind, NewEvent, OpenStream, StoredEvent } from '../port.ts'

const KINDS: Record<string, EventKind> = { o: 'open', m: 'message', f: 'final', e: 'end' }

const SPACE = 0x20

/** An entry of a log without its position, which the append script puts in front: `<ttl> <kind> <stream> <payload>`. */
export function encode({ streamId, kind, payload }: NewEvent, ttl: number): string {
  return `${Math.ceil(ttl)} ${kind[0]} ${streamName(streamId)} ${payload}`
}

/** A space ends the name in an entry. */
export function streamName(streamId: string): string {
  return /[ %]/.test(streamId) ? streamId.replace(/[ %]/g, encodeURIComponent) : streamId
}

function streamId(name: string): string {
  return name.includes('%') ? decodeURIComponent(name) : name
}

export function decode(entry: Buffer): StoredEvent {
  const position = entry.readUIntBE(0, 6) * 256 + entry[6]!
  const ttl = entry.indexOf(SPACE, 7)
  const kind = entry.indexOf(SPACE, ttl + 1)
  const stream = entry.indexOf(SPACE, kind + 1)
  return {
    streamId: streamId(entry.toString('utf8', kind + 1, stream)),
    kind: KINDS[entry.toString('latin1', ttl + 1, kind)]!,
    payload: entry.toString('utf8', stream + 1),
    position,
  }
}

/** When an entry expires. Its time to live counts from its position, which is a time in microseconds. */
export function expiryOf(entry: Buffer): number {
  const position = entry.readUIntBE(0, 6) * 256 + entry[6]!
  return Math.floor(position / 1000) + Number(entry.toString('latin1', 7, entry.indexOf(SPACE, 7)))
}

/** The hash of open streams as Redis answers it: name, `<order> <runs> <payload>`, name … */
export function decodeOpen(hash: readonly string[]): OpenStream[] {
  const found: (OpenStream & { order: number })[] = []
  for (let i = 0; i < hash.length; i += 2) {
    const text = hash[i + 1]!
    const runs = text.indexOf(' ')
    const payload = text.indexOf(' ', runs + 1)
    found.push({
      streamId: streamId(hash[i]!),
      payload: text.slice(payload + 1),
      runs: Number(text.slice(runs + 1, payload)),
      order: Number(text.slice(0, runs)),
    })
  }
  return found.sort((a, b) => a.order - b.order).map(({ order: _order, ...stream }) => stream)
}

/** The other way round, with the order of the list. */
export function encodeOpen(open: readonly OpenStream[]): string[] {
  return open.flatMap(({ streamId, runs, payload }, i) => [streamName(streamId), `${i} ${runs} ${payload}`])
}
