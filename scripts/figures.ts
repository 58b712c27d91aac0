import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/* `npm run docs:figures`: the pictures of docs/guarantees.md, one for each failure, and of docs/design.md. Time runs downwards. */

type Step =
  | { readonly from: Lane; readonly to: Lane; readonly text: string; readonly lost?: boolean }
  | { readonly dies: Lane; readonly text: string }
  | { readonly note: string }

type Lane = 'client' | 'A' | 'B' | 'store' | 'app'
type Lanes = Partial<Record<Lane, string>>
/** Of docs/guarantees.md: A owns the session. */
const FAILURE: Lanes = { client: 'client', A: 'node A (owner)', B: 'node B', store: 'store' }
/** Of docs/design.md: the client is at A, and B owns the session. */
const inside = (app: string): Lanes => ({
  client: 'client',
  A: 'node A',
  store: 'store',
  B: 'node B (owner)',
  app,
})
const GAP = 180
const ROW = 44
const TOP = 64

/** Its own card, in the colours that the reader's system prefers: legible on any page. */
const STYLE = `
.card { fill: #f8fafc; stroke: #cbd5e1 } .lane { stroke: #94a3b8 }
.head { fill: #e2e8f0 } text { fill: #0f172a; font: 13px system-ui, 'DejaVu Sans', sans-serif; text-anchor: middle }
.line { stroke: #2563eb; stroke-width: 1.5 } .tip { fill: #2563eb } .bad { stroke: #dc2626; fill: none; stroke-width: 2.5 }
.back { fill: #f8fafc } .wrong { fill: #b91c1c } .note { fill: #475569; font-style: italic }
@media (prefers-color-scheme: dark) {
.card { fill: #1f2430; stroke: #475569 } .head { fill: #334155 } text { fill: #e5e7eb } .line { stroke: #7dd3fc }
.tip { fill: #7dd3fc } .bad { stroke: #fda4af } .back { fill: #1f2430 } .wrong { fill: #fda4af } .note { fill: #cbd5e1 }
}`

function draw(title: string, steps: readonly Step[], lanes: Lanes): string {
  const names = Object.keys(lanes) as Lane[]
  const xOf = (lane: Lane) => 70 + names.indexOf(lane) * GAP
  const width = 140 + (names.length - 1) * GAP
  const height = TOP + steps.length * ROW + 24
  const parts: string[] = []
  const ends = new Map(
    steps.flatMap((step, index) => ('dies' in step ? [[step.dies, TOP + index * ROW + 22] as const] : [])),
  )
  for (const lane of names) {
    const x = xOf(lane)
    const end = ends.get(lane) ?? height - 16
    parts.push(`<line class="lane" x1="${x}" x2="${x}" y1="44" y2="${end}"/>`)
    parts.push(`<rect class="head" x="${x - 58}" y="16" width="116" height="28" rx="6"/>`)
    parts.push(`<text x="${x}" y="35">${lanes[lane]}</text>`)
  }
  parts.push(...steps.flatMap((step, index) => drawStep(step, TOP + index * ROW + 22, xOf, width)))
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title">
<title id="title">${title}</title>
<style>${STYLE}</style>
<rect class="card" x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10"/>
${parts.join('\n')}
</svg>
`
}

function drawStep(step: Step, y: number, xOf: (lane: Lane) => number, width: number): string[] {
  if ('note' in step) return label(width / 2, y + 4, step.note, 'note')
  if ('dies' in step) {
    const x = xOf(step.dies)
    const cross = `<path class="bad" d="M${x - 7} ${y - 7}l14 14m0 -14l-14 14"/>`
    return [cross, ...label(x + (x > 600 ? -50 : 50), y + 4, step.text, 'wrong')]
  }
  const [from, to] = [xOf(step.from), xOf(step.to)]
  const way = Math.sign(to - from)
  const end = step.lost ? from + (to - from) * 0.8 : to - way * 2
  const tip = step.lost
    ? `<path class="bad" d="M${end - 6} ${y - 6}l12 12m0 -12l-12 12"/>`
    : `<path class="tip" d="M${end} ${y}l${-way * 9} -5v10z"/>`
  const line = `<line class="line" x1="${from}" x2="${end}" y1="${y}" y2="${y}"/>`
  return [line, tip, ...label((from + to) / 2, y - 9, step.text)]
}

function label(x: number, y: number, text: string, name = ''): string[] {
  const width = text.length * 6.7 + 8
  return [
    `<rect class="back" x="${x - width / 2}" y="${y - 12}" width="${width}" height="16"/>`,
    `<text class="${name}" x="${x}" y="${y}">${text}</text>`,
  ]
}

const FIGURES: Record<string, readonly [title: string, steps: readonly Step[], lanes?: Lanes]> = {
  killed: [
    'The server is killed in the middle of a call',
    [
      { from: 'client', to: 'A', text: 'call' },
      { from: 'A', to: 'store', text: 'the call has begun; events 1, 2' },
      { from: 'A', to: 'client', text: 'events 1, 2' },
      { dies: 'A', text: 'killed' },
      { from: 'client', to: 'B', text: 'resume after event 2' },
      { from: 'B', to: 'store', text: 'takes the session over' },
      { note: 'B runs the call again, or answers it with "interrupted"' },
      { from: 'B', to: 'client', text: 'the rest, with the answer' },
    ],
  ],
  elsewhere: [
    'The owner is killed; the client is connected to another node',
    [
      { from: 'client', to: 'B', text: 'call' },
      { from: 'B', to: 'A', text: 'call' },
      { from: 'A', to: 'store', text: 'events 1, 2' },
      { from: 'B', to: 'client', text: 'events 1, 2' },
      { dies: 'A', text: 'killed' },
      { note: 'the stream of the client stays open' },
      { from: 'B', to: 'store', text: 'takes the session over' },
      { from: 'B', to: 'client', text: 'the rest, with the answer' },
    ],
  ],
  edge: [
    'The node of the client is killed; the owner is another',
    [
      { from: 'client', to: 'B', text: 'call' },
      { from: 'B', to: 'A', text: 'call' },
      { from: 'B', to: 'client', text: 'events 1, 2' },
      { dies: 'B', text: 'killed' },
      { from: 'A', to: 'store', text: 'the call goes on: events 3, 4' },
      { from: 'client', to: 'A', text: 'resume after 2' },
      { from: 'A', to: 'client', text: 'events 3, 4, …' },
    ],
  ],
  deploy: [
    'A deploy: the owner is closed in good order',
    [
      { from: 'client', to: 'A', text: 'call' },
      { note: 'SIGTERM: A finishes the calls that run' },
      { from: 'A', to: 'client', text: 'answer' },
      { from: 'A', to: 'store', text: 'gives its sessions up' },
      { dies: 'A', text: 'ends' },
      { from: 'client', to: 'B', text: 'next request' },
      { from: 'B', to: 'store', text: 'takes it, at once' },
      { from: 'B', to: 'client', text: 'answer, in the same session' },
    ],
  ],
  paused: [
    'The owner is paused for longer than its lease',
    [
      { note: 'A is paused: it neither answers nor renews its lease' },
      { from: 'client', to: 'B', text: 'next request' },
      { from: 'B', to: 'store', text: 'takes over: generation 8' },
      { from: 'B', to: 'client', text: 'answer' },
      { note: 'A wakes up' },
      { from: 'A', to: 'store', text: 'event of generation 7', lost: true },
      { note: 'the store refuses it; A lets the session go' },
    ],
  ],
  cut: [
    'The network is cut, or a proxy ends the stream',
    [
      { from: 'client', to: 'A', text: 'call' },
      { from: 'A', to: 'client', text: 'events 1, 2' },
      { from: 'A', to: 'client', text: 'event 3', lost: true },
      { from: 'A', to: 'store', text: 'the call goes on: events 3, 4' },
      { from: 'client', to: 'B', text: 'resume after event 2' },
      { from: 'B', to: 'client', text: 'events 3, 4, and what follows' },
    ],
  ],
  store: [
    'The store is away for a while',
    [
      { dies: 'store', text: 'away' },
      { from: 'client', to: 'A', text: 'call' },
      { from: 'A', to: 'client', text: 'answer, from memory' },
      { from: 'client', to: 'B', text: 'a new session' },
      { from: 'B', to: 'client', text: '503 with Retry-After' },
      { note: 'the store is back: A stores what it kept, and still has its sessions' },
    ],
  ],
  forwarded: [
    'A call that reaches another node than the owner',
    [
      { from: 'client', to: 'A', text: 'POST tools/call' },
      { from: 'A', to: 'store', text: 'who owns the session?' },
      { from: 'store', to: 'A', text: 'B, alive, generation 3' },
      { from: 'A', to: 'B', text: 'question 7, sealed' },
      { from: 'B', to: 'store', text: 'append open' },
      { from: 'B', to: 'app', text: 'the request' },
      { from: 'app', to: 'B', text: 'stream: progress, result' },
      { from: 'B', to: 'A', text: 'answer 7: 200, headers, stream' },
      { from: 'B', to: 'store', text: 'append message, final' },
      { from: 'A', to: 'client', text: '200, event stream' },
      { from: 'B', to: 'A', text: 'news of 7: the events' },
      { from: 'A', to: 'client', text: 'events, with their ids' },
    ],
    inside('app at B'),
  ],
  takeover: [
    'The owner is killed in the middle of a call',
    [
      { from: 'client', to: 'A', text: 'POST tools/call' },
      { from: 'A', to: 'B', text: 'question 7' },
      { from: 'B', to: 'store', text: 'append open' },
      { dies: 'B', text: 'SIGKILL' },
      { note: 'A sends a beat every second; B is gone' },
      { from: 'A', to: 'store', text: 'claim generation 4' },
      { from: 'store', to: 'A', text: 'yours; what is open' },
      { from: 'A', to: 'app', text: 'stored initialize, initialized, log level, subscriptions' },
      { note: 'the call may be repeated:' },
      { from: 'A', to: 'app', text: 'the request, again' },
      { from: 'app', to: 'A', text: 'stream' },
      { from: 'A', to: 'store', text: 'append (generation 4)' },
      { note: 'it may not: A appends the error "interrupted"' },
      { from: 'A', to: 'client', text: 'the stream goes on' },
      { note: 'if B had only been paused, its next append would be refused' },
    ],
    inside('app at A'),
  ],
  resume: [
    'A client resumes at another node than the owner',
    [
      { note: 'the connection of the client broke after event 7 of stream s' },
      { from: 'client', to: 'A', text: 'GET, Last-Event-ID: 7' },
      { from: 'A', to: 'B', text: 'question 8' },
      { from: 'B', to: 'app', text: 'ping, as the caller' },
      { from: 'app', to: 'B', text: '200' },
      { note: 'an older listener of s is closed' },
      { from: 'B', to: 'A', text: 'answer 8: follow s after 7' },
      { from: 'A', to: 'store', text: 'read s after 7' },
      { from: 'store', to: 'A', text: '8, 9' },
      { from: 'A', to: 'client', text: '8, 9' },
      { from: 'B', to: 'A', text: 'news: 10, the result' },
      { from: 'A', to: 'client', text: '10, and the end' },
    ],
    inside('app at B'),
  ],
}

const folder = fileURLToPath(new URL('../docs/figures/', import.meta.url))
mkdirSync(folder, { recursive: true })
for (const [name, [title, steps, lanes = FAILURE]] of Object.entries(FIGURES))
  writeFileSync(`${folder}${name}.svg`, draw(title, steps, lanes))
