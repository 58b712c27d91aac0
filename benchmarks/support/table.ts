export interface Table {
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** A Markdown table with aligned columns: the first to the left, figures to the right. */
export function formatTable({ head, rows }: Table): string {
  const widths = head.map((_, i) => Math.max(3, ...[head, ...rows].map((row) => row[i]!.length)))
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(' | ')} |`
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}

export function rate(perSecond: number): string {
  return perSecond >= 10_000 ? `${(perSecond / 1000).toFixed(0)} k` : `${(perSecond / 1000).toFixed(1)} k`
}

export function ms(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2)
}

export function ratio(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2)
}
