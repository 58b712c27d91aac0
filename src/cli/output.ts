import { stopped } from './interrupt.ts'

export interface OutputOptions {
  /** One JSON document on stdout instead of text for people. */
  readonly json?: boolean | undefined
}

/** With `--json` the document, else the lines. */
export async function print(
  document: unknown,
  lines: readonly string[] | (() => readonly string[]),
  { json }: OutputOptions,
): Promise<void> {
  if (json) await printLine(JSON.stringify(document, null, 2))
  else for (const line of typeof lines === 'function' ? lines() : lines) await printLine(line)
}

/** Waits for a slow reader, so that a long list does not pile up in memory. */
export async function printLine(line: string): Promise<void> {
  if (stopped() || process.stdout.write(`${line}\n`)) return
  await new Promise<void>((resolve) => {
    const done = () => {
      process.stdout.off('drain', done).off('error', done)
      resolve()
    }
    process.stdout.on('drain', done).on('error', done)
  })
}

/** One sentence on stderr; with `--json` also a document on stdout, so that there always is one. */
export function printError(
  message: string,
  { code, json }: OutputOptions & { code: string | undefined },
): void {
  const sentence = message.trim().replace(/\s*\n\s*/g, ' ')
  if (json) process.stdout.write(`${JSON.stringify({ error: { code, message: sentence } })}\n`)
  process.stderr.write(`${paint('red', 'error:', process.stderr)} ${sentence}\n`)
}

const COLOURS = { red: 31, green: 32, yellow: 33, dim: 2 } as const

export function paint(
  colour: keyof typeof COLOURS,
  text: string,
  stream: { readonly isTTY?: boolean } = process.stdout,
): string {
  const plain = !stream.isTTY || process.env.NO_COLOR || process.env.TERM === 'dumb'
  return plain ? text : `\u001b[${COLOURS[colour]}m${text}\u001b[0m`
}

/** Left-aligned columns; the first row is the head. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const columns = rows[0]?.length ?? 0
  const safe = rows.map((row) => row.map(printable))
  const widths = Array.from({ length: columns }, () => 0)
  // A loop: the rows of a long list are more than a call may have arguments.
  for (const row of safe) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  }
  const lines = safe.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  )
  return lines.map((line, i) => (i === 0 ? paint('dim', line) : line))
}

/** Names and values, one a line. */
export function facts(entries: readonly (readonly [name: string, value: string])[]): string[] {
  const width = Math.max(...entries.map(([name]) => name.length))
  return entries.map(([name, value]) => `${paint('dim', name.padEnd(width))}  ${printable(value)}`)
}

/** What clients have chosen must not be able to steer the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not pass
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '·')
}

export function time(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}

export function count(number: number, noun: string): string {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`
}

export function bytes(number: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  const unit = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, number)) / 10))
  return unit === 0 ? `${number} bytes` : `${(number / 1024 ** unit).toFixed(1)} ${units[unit]}`
}
