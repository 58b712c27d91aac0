import type { Journal } from './journal.ts'

/** What became of the messages that tools sent, as their client saw it. Empty arrays: nothing went wrong. */
export interface Ledger {
  readonly lost: string[]
  readonly doubled: string[]
  /** Came without having been sent. */
  readonly foreign: string[]
  /** Came after one that was sent later, within the same tag. */
  readonly disordered: string[]
}

export const balanced: Ledger = { lost: [], doubled: [], foreign: [], disordered: [] }

/**
 * Compares what the tools with these tags noted as sent with the log lines a client received. A line reads
 * `<tag>:<number>`; a call that was run again sends its lines again, so `reruns` allows a line to be sent, and
 * to come, more than once.
 */
export function ledger(
  journal: Journal,
  received: readonly string[],
  options: { tags?: readonly string[] } = {},
): Ledger {
  const ours = (tag: string) => options.tags === undefined || options.tags.includes(tag)
  const sent = journal
    .entries()
    .filter(({ what, tag }) => what === 'sent' && ours(String(tag)))
    .map(({ data }) => String(data))
  const came = received.filter((line) => ours(tagOf(line)))
  const lost: string[] = []
  const doubled: string[] = []
  for (const line of new Set(sent)) {
    const difference = count(came, line) - count(sent, line)
    if (difference < 0) lost.push(line)
    if (difference > 0) doubled.push(line)
  }
  const foreign = came.filter((line) => !sent.includes(line))
  const disordered: string[] = []
  for (const tag of new Set(sent.map(tagOf))) {
    const expected = sent.filter((line) => tagOf(line) === tag)
    const actual = came.filter((line) => tagOf(line) === tag)
    const inOrder = actual.filter((line) => !lost.includes(line) && !foreign.includes(line))
    let last = -1
    for (const line of new Set(inOrder)) {
      const place = expected.indexOf(line)
      if (place < last) disordered.push(line)
      last = Math.max(last, place)
    }
  }
  return { lost, doubled, foreign, disordered }
}

function tagOf(line: string): string {
  return line.slice(0, line.lastIndexOf(':'))
}

function count(lines: readonly string[], line: string): number {
  return lines.reduce((sum, candidate) => sum + (candidate === line ? 1 : 0), 0)
}
