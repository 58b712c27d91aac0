// npm run test:frameworks [name ...]: installs each example of examples/frameworks with the packed tarball of this repository,
// drives it on two nodes, and prints the table that stands in docs/frameworks.md.
import { styleText } from 'node:util'
import { drive, type Report } from './drive.ts'
import { install, pack, versionsOf } from './installed.ts'
import { rowOf, TABLE_HEAD, unexpected } from './report.ts'
import { STACKS } from './stacks.ts'

const names = process.argv.slice(2)
const unknown = names.filter((name) => !STACKS.some((stack) => stack.name === name))
if (unknown.length > 0) throw new Error(`No example ${unknown.join(', ')}.`)
const stacks = STACKS.filter(({ name }) => names.length === 0 || names.includes(name))

const tarball = await pack()
const rows: string[] = []
let failed = 0
for (const stack of stacks) {
  const began = performance.now()
  let versions = ''
  let report: Report
  try {
    const folder = await install(stack, tarball)
    versions = await versionsOf(stack, folder)
    report = await drive(stack, folder)
  } catch (error) {
    report = new Map([['connect', error instanceof Error ? error.message : String(error)]])
  }
  const wrong = unexpected(stack, report)
  if (wrong.length > 0) failed += 1
  rows.push(rowOf(stack, versions, report))
  const seconds = ((performance.now() - began) / 1000).toFixed(0)
  process.stdout.write(
    `${wrong.length === 0 ? styleText('green', 'as expected') : styleText('red', 'WRONG')} ${stack.name}, ${seconds} s\n`,
  )
  for (const line of wrong) process.stdout.write(`  ${line}\n`)
}
process.stdout.write(`\n${[...TABLE_HEAD, ...rows].join('\n')}\n`)
process.exit(failed === 0 ? 0 : 1)
