import { RawClient, type RawStream } from '../support/clients/raw-client.ts'
import { until, within } from '../support/wait.ts'
import type { User } from './plan.ts'

/** A session that is in use while others try to get at it: a call runs, a question is open, somebody listens. */
export class Victim {
  readonly user: User
  client: RawClient
  /** Stands in all that the session says, and nowhere else. */
  readonly secret: string
  #running: RawStream | undefined
  #asked: RawStream | undefined
  #listening: RawStream | undefined
  #own = ''
  #event = ''
  #question = '"none"'
  #cancelled = '0'

  constructor(user: User, client: RawClient) {
    this.user = user
    this.client = client
    this.secret = `secret-of-${user}`
  }

  static async open(user: User, url: string, headers: Record<string, string>): Promise<Victim> {
    for (let left = 3; ; left -= 1) {
      try {
        const victim = new Victim(user, await RawClient.open(url, { headers }))
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
    this.#running = await client.stream(slow)
    this.#asked = await client.stream(client.toolCall('sample', { prompt: secret }))
    const question = await this.#asked.next(
      'the question',
      ({ method }) => method === 'sampling/createMessage',
    )
    this.#question = JSON.stringify(question.id)
    const said = await client.stream(client.toolCall('burst', { tag: secret, count: 2 }))
    await said.over()
    this.#event = said.events[0]?.id ?? ''
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
    await until('the running call to go on', () => running.events.length > before, 3000)
    await client.tool('burst', { tag: `last-${secret}`, count: 1, via: 'standalone' })
    await until('the standalone stream to go on', () => listening.logs.includes(`last-${secret}:1`), 3000)
    const question = asked.messages.find(({ method }) => method === 'sampling/createMessage')!
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
