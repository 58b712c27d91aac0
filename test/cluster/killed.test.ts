import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type Backend, type StoreSpace, storeSpace } from '../support/backends.ts'
import { RawClient, type RawStream } from '../support/clients/raw-client.ts'
import { type HostedCluster, hostCluster } from '../support/cluster.ts'
import { until } from '../support/wait.ts'

const backends: readonly Backend[] = ['sqlite', 'redis', 'postgres']
/** Kills of each kind; by default one, `SEEDS=20` for a longer look. */
const rounds = Array.from({ length: Number(process.env.SEEDS ?? 1) }, (_, index) => index)
/** Each kill meets so many sessions, each at another moment in the life of its call. */
const SESSIONS = 6
const STEPS = 20

const counting = (length: number) => Array.from({ length }, (_, index) => index + 1)

/** The numbers of a tag's lines on these streams, in the order in which they came. */
function numbers(tag: string, ...streams: RawStream[]): number[] {
  const lines = streams.flatMap(({ logs }) => logs).filter((line) => line.startsWith(`${tag}:`))
  return lines.map((line) => Number(line.split(':')[1]))
}

function uniqueIds(...streams: RawStream[]): void {
  const ids = streams.flatMap(({ messages, events }) => {
    expect(messages.length).toBeLessThanOrEqual(events.length)
    return events.filter(({ message }) => message !== undefined).map(({ id }) => id)
  })
  expect(new Set(ids).size).toBe(ids.length)
}

describe.each(backends)('three processes on %s', (backend) => {
  let space: StoreSpace
  let cluster: HostedCluster
  beforeAll(async () => {
    space = await storeSpace(backend)
    const options = { retryInterval: 20, ttl: 120, lease: 2 }
    cluster = await hostCluster({ shape: 'factory', store: space.url, options })
  })
  afterAll(async () => {
    await cluster?.close()
    await space.remove()
  })

  /** A session whose owner is the first of them, and its client at each of the three. */
  async function open(first: number): Promise<{ owner: RawClient; edge: RawClient; other: RawClient }> {
    const url = (offset: number) => cluster.nodes[(first + offset) % 3]!.url
    const owner = await RawClient.open(url(0))
    const [edge, other] = [owner.clone(url(1)), owner.clone(url(2))]
    onTestFinished(() => {
      for (const client of [owner, edge, other]) client.close()
    })
    return { owner, edge, other }
  }

  /** SIGKILL; it is there again when the test is over. */
  async function kill(index: number): Promise<void> {
    const { host } = cluster.nodes[index % 3]!
    await host.kill('SIGKILL')
    onTestFinished(() => host.start())
  }

  const noted = (what: string, tag: string) =>
    cluster.journal.entries().filter((entry) => entry.what === what && entry.tag === tag)

  /** Calls, a question and a listener of one session; what has to be true of them after its owner's end. */
  async function callsAndListener(first: number, name: string) {
    const { edge, other } = await open(first)
    const [safe, unsafe, aside] = [`safe-${name}`, `unsafe-${name}`, `aside-${name}`]
    const listener = await other.listen()
    const asking = await edge.stream(edge.toolCall('elicit', { message: `name ${name}?` }))
    const question = await asking.next('the question', ({ method }) => method === 'elicitation/create')
    await other.tool('later', { tag: aside, count: 30, ms: 5 })
    const args = { steps: STEPS, ms: 10 }
    const reading = edge.toolCall('slow_read_only', { tag: safe, ...args })
    const writing = other.toolCall('slow', { tag: unsafe, ...args })
    const [read, write] = await Promise.all([edge.stream(reading), other.stream(writing)])

    async function verify(): Promise<void> {
      const done = await read.next('the answer to the safe call', ({ id }) => id === reading.id, 20_000)
      expect(JSON.stringify(done.result)).toContain(`${safe} done after ${STEPS}`)
      const end = await write.next('the answer to the other call', ({ id }) => id === writing.id, 20_000)
      if (end.error) expect(end.error.message).toMatch(/may or may not/i)
      else expect(noted('end', unsafe)).toHaveLength(1)
      expect(noted('start', unsafe)).toHaveLength(1)
      const unanswered = await asking.next('its end', ({ error }) => error !== undefined, 20_000)
      expect(unanswered.error?.message).toMatch(/may or may not/i)
      const late = await edge.answer(question, { action: 'accept', content: { name: 'too late' } })
      await late.text()
      expect(late.status).toBe(202)

      // What came is what was sent, in order, each once: a first run as far as it got, and all of the second one.
      const came = numbers(safe, read)
      const begin = came.lastIndexOf(1)
      expect(came.slice(begin)).toEqual(counting(STEPS))
      expect(came.slice(0, begin)).toEqual(counting(begin))
      expect(begin === 0 || noted('start', safe).length === 2).toBe(true)
      const wrote = numbers(unsafe, write)
      expect(wrote).toEqual(counting(wrote.length))

      expect(listener.state).toBe('open')
      await edge.tool('burst', { tag: `after-${name}`, count: 3, via: 'standalone' })
      await until('what came after', () => listener.logs.includes(`after-${name}:3`))
      expect(numbers(`after-${name}`, listener)).toEqual([1, 2, 3])
      const heard = numbers(aside, listener)
      expect(heard).toEqual(counting(heard.length))
      const answers = await Promise.all([edge.tool('counter'), other.tool('counter')])
      expect(answers.sort()).toEqual(['1', '2'])
      uniqueIds(read, write, asking, listener)
    }
    return { stream: read, verify }
  }

  /** A call and a listener whose edge is going to be killed. */
  async function servedByTheEdge(first: number, name: string) {
    const { owner, edge, other } = await open(first)
    const [call, aside] = [`call-${name}`, `edge-${name}`]
    const listener = await edge.listen()
    const calling = edge.toolCall('slow', { tag: call, steps: STEPS, ms: 10 })
    const stream = await edge.stream(calling)
    await owner.tool('later', { tag: aside, count: STEPS, ms: 10 })

    async function verify(): Promise<void> {
      await Promise.all([stream.over(), listener.over()])
      const heard = await owner.listen(listener.lastEventId)
      const streams = [stream]
      if (!stream.messages.some(({ id }) => id === calling.id)) {
        const rest = await other.listen(stream.lastEventId)
        await rest.next('the answer', ({ id }) => id === calling.id)
        streams.push(rest)
      }
      expect(numbers(call, ...streams)).toEqual(counting(STEPS))
      expect(noted('start', call)).toHaveLength(1)
      await until('all of the notifications', () => numbers(aside, listener, heard).length >= STEPS)
      expect(numbers(aside, listener, heard)).toEqual(counting(STEPS))
      uniqueIds(...streams, listener, heard)
    }
    return { stream, verify }
  }

  /** Begins one after the other, so that the last has just begun when the first is about to end. */
  async function begin<T extends { stream: RawStream }>(start: (name: string) => Promise<T>, round: number) {
    const lives: T[] = []
    for (let index = 0; index < SESSIONS; index++) {
      const life = await start(`${round}-${index}`)
      lives.push(life)
      const lead = round % 4
      await until('the moment', () => life.stream.logs.length >= lead || life.stream.state !== 'open')
    }
    return lives
  }

  it.each(rounds)(
    'the owner is killed (%i): calls are answered, and who listens elsewhere hears on',
    async (round) => {
      const lives = await begin((name) => callsAndListener(round, name), round)
      await kill(round)
      await Promise.all(lives.map(({ verify }) => verify()))
    },
  )

  it.each(rounds)(
    'the edge is killed (%i): its clients resume at another node and have all of it',
    async (round) => {
      const lives = await begin((name) => servedByTheEdge(round, name), round)
      await kill(round + 1)
      await Promise.all(lives.map(({ verify }) => verify()))
    },
  )
})
