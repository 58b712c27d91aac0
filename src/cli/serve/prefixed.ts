import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'

/** Characters; a longer line is written in parts. */
const MAX_LINE = 64 * 1024

/**
 * Passes on what a process writes, line by line and each with its name in front. A reader of ours that is slow makes the process
 * wait, as it would without us. Never rejects.
 */
export async function prefixed(from: AsyncIterable<unknown>, prefix: string, to: Writable): Promise<void> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  const write = async (line: string) => {
    if (to.writable && !to.write(`${prefix} ${line}\n`)) await once(to, 'drain')
  }
  try {
    for await (const chunk of from) {
      const lines = (rest + decoder.write(chunk as Buffer)).split(/\r?\n/)
      rest = lines.pop() ?? ''
      for (const line of lines) await write(line)
      if (rest.length < MAX_LINE) continue
      await write(rest)
      rest = ''
    }
    if (rest !== '') await write(rest)
  } catch {
    // Nobody writes or reads any more.
  }
}
