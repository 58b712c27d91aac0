import type { Report } from './drive.ts'
import { STEPS, type Stack } from './stacks.ts'

export const TABLE_HEAD = [
  `| framework | versions | ${STEPS.join(' | ')} | why not |`,
  `| --- | --- | ${STEPS.map(() => '---').join(' | ')} | --- |`,
]

export function rowOf({ title, lacks = {} }: Stack, versions: string, report: Report): string {
  const cells = STEPS.map((step) => {
    if (report.get(step) === true) return 'yes'
    return lacks[step] === undefined ? '**no**' : 'no'
  })
  const reasons = [...new Set(Object.values(lacks))].join('; ')
  return `| ${[title, versions, ...cells, reasons].join(' | ')} |`
}

/** What differs from what is known: also a step that passes now, so that the docs say so. */
export function unexpected({ lacks = {} }: Stack, report: Report): string[] {
  return STEPS.flatMap((step) => {
    const said = report.get(step)
    if (said === true) return lacks[step] === undefined ? [] : [`${step}: passes, and is not said to`]
    return lacks[step] === undefined ? [`${step}: ${said ?? 'was not tried'}`] : []
  })
}
