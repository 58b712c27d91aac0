import { setTimeout as sleep } from 'node:timers/promises'
import type { SdkLine } from '../support/apps/sdk-lines.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { until } from '../support/wait.ts'
import { Lines } from './lines.ts'

// Milliseconds.
const CALL_TIMEOUT = 60_000
const ARRIVAL = 20_000

export interface SoakOptions {
  readonly sdk: SdkLine
  readonly url: string
  readonly name: string
  /** Mean pause between two calls, in ms. */
  readonly think: number
  /** It never pauses, and has two calls running at a time: its session is never at rest. Default false. */
  readonly busy?: boolean
  /** Nodes are killed too: a call may end with an error that says so, or be run again. */
  readonly kills: boolean
  /** Was a node killed a moment ago? Then a connection may break before it has an id. */
  readonly justKilled?: () => boolean
  /** Called for each thing that must not happen. */
  readonly onWrong: (what: string) => void
}

/** One user: calls, answers questions, listens, and knows what must come. */
export class SoakClient {
  readonly #options: SoakOptions
  readonly #client: OfficialClient
  readonly #lines: Lines
  #calls = 0
  #ending = false
  /** Calls that ended with the right answer, by tool. */
  readonly answered: Record<string, number> = {}
  /** Calls that a kill interrupted. */
  interrupted = 0
  /** The longest that it waited for the end of a call, in ms. It gives none up because it hears nothing. */
  longestWait = 0
  /** Times the client came back to a stream with the id of the last event. */
  resumed = 0

  private constructor(options: SoakOptions, client: OfficialClient) {
    this.#options = options
    this.#client = client
    this.#lines = new Lines(options.onWrong)
  }

  static async connect(options: SoakOptions): Promise<SoakClient> {
    const client = await OfficialClient.connect(options.sdk, options.url, { insist: options.kills })
    await client.listening()
    // One request more than there are nodes: the streams of all clients are not to be at the same one.
    await client.client.ping()
    return new SoakClient(options, client)
  }

  /** Calls one thing after the other until told to stop; never rejects. */
  async run(over: () => boolean): Promise<void> {
    const { think, busy = false } = this.#options
    const lane = async () => {
      while (!over()) {
        await this.#callOnce()
        this.#look()
        if (!busy) await sleep(think * (0.5 + Math.random()))
      }
    }
    await Promise.all(busy ? [lane(), lane()] : [lane()])
  }

  /** What was sent on the standalone stream must have come by now, or come soon; then the session is ended. */
  async finish(): Promise<void> {
    const { onWrong, name } = this.#options
    await until('the last lines', () => this.#look(), ARRIVAL).catch(() => {})
    for (const missing of this.#lines.missing()) onWrong(`${missing} was lost`)
    this.#look()
    this.#ending = true
    try {
      await this.#client.terminate()
    } catch (error) {
      onWrong(`${name} could not end its session: ${error}`)
    }
    this.#look()
    await this.#client.close()
  }

  /** Takes what has come since the last look. True: nothing is awaited any more. */
  #look(): boolean {
    const { onWrong } = this.#options
    for (const { method, params } of this.#client.received.splice(0)) {
      if (method === 'notifications/message') this.#lines.came(String(params?.['data']))
    }
    for (const { method, status, lastEventId } of this.#client.exchanges.splice(0)) {
      if (lastEventId !== null) this.resumed += 1
      // The SDK's client comes back for the standalone stream of the session that it has just ended.
      if (this.#ending && method === 'GET' && status === 404) continue
      // The proxy answers 502 for a node that was killed before it said anything.
      if (status >= 400 && !(status === 502 && this.#justKilled()))
        onWrong(`${method} was answered with status ${status}`)
    }
    this.#client.errors.length = 0
    return this.#lines.settled
  }

  async #callOnce(): Promise<void> {
    const { name, kills, onWrong } = this.#options
    this.#calls += 1
    const tag = `${name}-${this.#calls}`
    const [tool, args, expected] = pick(tag)
    const from = performance.now()
    const count = Number(args['count'] ?? args['steps'] ?? 0)
    this.#lines.expect(tag, count, {
      // An interrupted call has sent some of its lines; one that is run again sends them again.
      late: args['via'] === 'standalone',
      again: kills && tool === 'slow_read_only',
    })
    try {
      const answer = await this.#client.tool(tool, args, { timeout: CALL_TIMEOUT })
      if (answer !== expected) onWrong(`${tool} was answered with "${answer}", not "${expected}"`)
      else this.answered[tool] = (this.answered[tool] ?? 0) + 1
      this.#look()
      this.#lines.answered(tag)
    } catch (error) {
      this.#look()
      this.#lines.interrupted(tag)
      const isHonest =
        (kills && INTERRUPTED.test(`${error}`)) || (this.#justKilled() && BROKEN.test(`${error}`))
      if (isHonest) this.interrupted += 1
      else onWrong(`${tool} failed: ${error}`)
    }
    const waited = performance.now() - from
    this.longestWait = Math.max(this.longestWait, waited)
    if (waited > LONG) onWrong(`${tool} (${tag}, ${JSON.stringify(args)}) took ${waited.toFixed(0)} ms`)
  }

  #justKilled(): boolean {
    return this.#options.justKilled?.() ?? false
  }
}

/** Milliseconds. The longest call lasts 1.5 s; it may be run twice, and its client comes back to it after a second or two. */
const LONG = 10_000
/** The error of the next owner of a session whose owner was killed. */
const INTERRUPTED = /may or may not/i
/** A connection that broke before it had an id. */
const BROKEN =
  /fetch failed|terminated|HTTP 502|Bad Gateway|status 502|code: 502|Error POSTing to endpoint: $/i

type Chosen = readonly [tool: string, args: Record<string, unknown>, answer: string]

function pick(tag: string): Chosen {
  const choices: readonly [weight: number, choose: () => Chosen][] = [
    [3, () => ['echo', { text: tag }, tag]],
    [2, () => ['slow', { tag, steps: 4, ms: 20 }, `${tag} done after 4`]],
    [0.5, () => ['slow', { tag, steps: 15, ms: 100 }, `${tag} done after 15`]],
    [1, () => ['slow_read_only', { tag, steps: 8, ms: 50 }, `${tag} done after 8`]],
    [2, () => ['sample', { prompt: tag }, `${tag} -> answer(${tag})`]],
    [1, () => ['sample', { prompt: tag, via: 'standalone' }, `${tag} -> answer(${tag})`]],
    [1, () => ['elicit', { message: tag }, elicited(tag)]],
    [1, () => ['burst', { tag, count: 5 }, `${tag} sent 5`]],
    [1, () => ['burst', { tag, count: 5, via: 'standalone' }, `${tag} sent 5`]],
  ]
  let left = Math.random() * choices.reduce((sum, [weight]) => sum + weight, 0)
  for (const [weight, choose] of choices) {
    left -= weight
    if (left < 0) return choose()
  }
  return choices[0]![1]()
}

function elicited(tag: string): string {
  return JSON.stringify({ action: 'accept', content: { name: `asked: ${tag}` } })
}
