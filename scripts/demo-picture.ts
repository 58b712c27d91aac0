import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/* `npm run docs:demo`: runs the demo, and draws what it printed as `docs/demo.svg`. */
const root = fileURLToPath(new URL('../', import.meta.url))
const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', 'demo'], {
  cwd: root,
  encoding: 'utf8',
  timeout: 120_000,
})
if (status !== 0) throw new Error(`The demo ended with ${status}:\n${stdout}${stderr}`)

const COLUMNS = 96
const WIDTH = 10
const HEIGHT = 22
const lines = ['$ npm run demo', ...stdout.trimEnd().split('\n').flatMap(shorten)]
const width = COLUMNS * WIDTH * 0.84 + 40
const height = lines.length * HEIGHT + 60

/** Folders and process ids say nothing to a reader; long lines are broken where words end. */
function shorten(line: string): string[] {
  const short = line.replace(/sqlite:\S*\/(\S+)/, 'sqlite:$1').replace(/([0-9a-f]{8})-[0-9a-f-]{27}/g, '$1')
  const [, time, rest] = /^(\s*\d+\.\d s {2})(.*)$/.exec(short) ?? ['', '', short]
  const broken: string[] = []
  let current = ''
  for (const word of rest!.split(' ')) {
    if (time!.length + current.length + word.length + 1 > COLUMNS) {
      broken.push(current)
      current = ''
    }
    current += current === '' ? word : ` ${word}`
  }
  return [...broken, current].map((part, index) => (index === 0 ? time : ' '.repeat(time!.length)) + part)
}

function colour(line: string): string {
  if (line.startsWith('$')) return '#7dd3fc'
  if (line.includes('SIGKILL')) return '#fda4af'
  if (line.includes('nothing was lost')) return '#86efac'
  return '#e5e7eb'
}

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
const rows = lines.map(
  (line, index) =>
    `<text x="24" y="${58 + index * HEIGHT}" fill="${colour(line)}" xml:space="preserve">${escaped(line)}</text>`,
)
const dots = ['#f87171', '#fbbf24', '#34d399'].map(
  (fill, index) => `<circle cx="${26 + index * 20}" cy="22" r="6" fill="${fill}"/>`,
)
writeFileSync(
  `${root}docs/demo.svg`,
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title"
  font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
<title id="title">A server is killed in the middle of a call; its client goes on with the next one, and nothing is lost</title>
<rect width="${width}" height="${height}" rx="10" fill="#1f2430"/>
${dots.join('\n')}
${rows.join('\n')}
</svg>
`,
)
console.log(stdout.trimEnd())
