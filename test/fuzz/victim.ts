import { type Message, RawClient, type RawStream } from '../support/clients/raw-client.ts'
import { until, within } from '../support/wait.ts'
import type { User } from './plan.ts'

export interface Victims {
  readonly headers: Record<string, string>
  /** Calls are answered in plain JSON: what a tool asks comes by the standalone stream, and nothing is resumed. */
  readonly json: boolean
}

/** A call that is answered in plain JSON, as far as it is like a stream. */
class Waiting {
  state: 'open' | 'ended' = 'open'
  readonly events = []
  messages: Message[] = []

  constructor(answer: Promise<Message>) {
    const settle = (messages: Message[]) => {
      this.state = 'ended'
      this.messages = messages
    }
    answer.then((message) => settle([message])).catch(() => settle([]))
  }

  async next(what: string, matches: (message: Message) => boolean, timeoutMs?: number): Promise<Message> {
    return until(what, () => this.messages.find(matches), timeoutMs)
  }
}

type Running = Pick<RawStream, 'state' | 'events' | 'messages' | 'next'>

/** A session that is in use while others try to get at it: a call runs, a question is open, somebody listens. */
export class Victim {
  readonly user: User
  client: RawClient
  /** Stands in all that the session says, and nowhere else. */
  readonly secret: string
  readonly #json: boolean
  #running: Running | undefined
  #asked: Running | undefined
  #listening: RawStream | undefined
  #own = ''
  #event = ''
  #question = '"none"'
  #cancelled = '0'

  constructor(user: User, client: RawClient, json: boolean) {
    this.user = user
    this.client = client
    this.#json = json
    this.secret = `secret-of-${user}`
  }

  static async open(user: User, url: string, { headers, json }: Victims): Promise<Victim> {
    for (let left = 3; ; left -= 1) {
      try {
        const victim = new Victim(user, await RawClient.open(url, { headers }), json)
        await victim.#begin()
        return victim
      } catch (error) {
        // `fetch` keeps connections to ports that another server has now.
        if (left === 0 || !(error instanceof TypeError)) throw error
      }
    }
  }

  async #begin(): Promise<void> {
    const { client, secret } = this
    this.#own = await client.tool('session_id')
    this.#listening = await client.listen()
    await client.tool('burst', { tag: secret, count: 2, via: 'standalone' })
    const slow = client.toolCall('slow', { tag: secret, steps: 100_000, ms: 200 })
    this.#cancelled = JSON.stringify(slow.id)
    this.#running = await this.#call(slow)
    const via = this.#json ? 'standalone' : 'call'
    this.#asked = await this.#call(client.toolCall('sample', { prompt: secret, via }))
    this.#question = JSON.stringify((await this.#questions.next('the question', isQuestion)).id)
    if (this.#json) return
    const said = await client.stream(client.toolCall('burst', { tag: secret, count: 2 }))
    await said.over()
    this.#event = said.events[0]?.id ?? ''
  }

  async #call(call: Message): Promise<Running> {
    return this.#json ? new Waiting(this.#answer(call)) : this.client.stream(call)
  }

  /** Without the client, to which an answer without a head for as long as this is a hang. */
  async #answer(call: Message): Promise<Message> {
    const { url, session, version, headers } = this.client
    const answer = await fetch(url, {
      method: 'POST',
      headers: {
        ...headers,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-session-id': session!,
        'mcp-protocol-version': version,
      },
      body: JSON.stringify(call),
    })
    return (await answer.json()) as Message
  }

  get #questions(): Running {
    return this.#json ? this.#listening! : this.#asked!
  }

  /** What stands for `{alice.main.name}`. */
  name(name: string): string {
    const id = this.client.session!
    switch (name) {
      case 'id':
        return id
      case 'upper':
        return id.toUpperCase()
      case 'own':
        return this.#own
      case 'event':
        return this.#event
      case 'standalone':
        return this.#listening?.events[0]?.id ?? ''
      case 'question':
        return this.#question
      default:
        return this.#cancelled
    }
  }

  /** Its node has gone; others serve it. */
  move(url: string): void {
    this.client = this.client.clone(url)
  }

  /** What is wrong with the session, which nobody but its owner has been let near. `settled`: its calls ended with their node. */
  async check(settled: boolean): Promise<string | undefined> {
    try {
      return await this.#check(settled)
    } catch (error) {
      return `the session of ${this.user} does not work any more: ${(error as Error).message}`
    }
  }

  async #check(settled: boolean): Promise<string | undefined> {
    const { client, user, secret } = this
    if ((await client.tool('echo', { text: user })) !== user) return `${user} got an answer that is not hers`
    if (settled) return undefined
    const [running, asked, listening] = [this.#running!, this.#asked!, this.#listening!]
    const states = [running.state, asked.state, listening.state].join()
    // A question is open for a minute, and a machine may be slow.
    const late = JSON.stringify(asked.messages).includes('timed out')
    if (late && states === 'open,ended,open') return undefined
    if (states !== 'open,open,open')
      return `the streams of ${user} (call, question, standalone) are ${states}`
    const before = running.events.length
    if (!this.#json) await until('the running call to go on', () => running.events.length > before, 3000)
    await client.tool('burst', { tag: `last-${secret}`, count: 1, via: 'standalone' })
    await until('the standalone stream to go on', () => listening.logs.includes(`last-${secret}:1`), 3000)
    const question = this.#questions.messages.find(isQuestion)!
    const result = { model: 'good', role: 'assistant', content: { type: 'text', text: user } }
    await (await client.answer(question, result)).text()
    const { result: final } = await asked.next('the answer', (message) => message.result !== undefined, 3000)
    return JSON.stringify(final).includes(`-> ${user}`) ? undefined : `somebody else answered for ${user}`
  }

  async end(): Promise<void> {
    await within(
      'DELETE',
      this.client.delete().then((response) => response.text()),
    ).catch(() => {})
    this.client.close()
  }
}

function isQuestion({ method }: Message): boolean {
  return method === 'sampling/createMessage'
}
