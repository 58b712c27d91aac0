import type { Message } from '../../../src/session/protocol/json-rpc.ts'
import type { Ingredient } from '../ingredients.ts'
import type { Violations } from '../invariants/violations.ts'
import type { Called, Ledger, Run, Step } from '../ledger.ts'
import type { Random } from '../random.ts'
import { reply, type SimulatedClient } from './client.ts'
import { Heard } from './heard.ts'

/** What a call's tool does, from what the world may be made of. */
export function script(name: string, random: Random, has: ReadonlySet<Ingredient>): Step[] {
  const steps: Step[] = []
  const some = (ingredient: Ingredient, share: number) => has.has(ingredient) && random.chance(share)
  if (some('tool-cuts-at-once', 0.5)) steps.push({ cut: true })
  for (let i = random.between(0, 4); i > 0; i -= 1) {
    if (random.chance(0.7))
      steps.push({ wait: random.chance(0.2) ? random.between(100, 1000) : random.between(1, 60) })
    if (random.chance(0.5)) steps.push({ notify: random.between(1, 3) })
    if (some('tool-cuts', 0.4)) steps.push({ cut: true })
    if (!(has.has('app-has-no-get') && has.has('app-answers-json')) && some('tool-asks', 0.4))
      steps.push({ ask: 'here', question: `${name}/${i}` })
    if (!has.has('app-has-no-get') && some('tool-asks-aside', 0.4))
      steps.push({ ask: 'aside', question: `${name}/${i}` })
    if (some('tool-announces', 0.5)) steps.push({ announce: true })
    if (some('tool-cuts-standalone', 0.3)) steps.push({ cutStandalone: true })
    if (some('tool-chatters', 0.2)) steps.push({ notify: random.between(20, 120) })
  }
  if (some('tool-throws', 0.3)) steps.push({ end: 'throw' })
  else if (some('tool-breaks-off', 0.3)) steps.push({ end: 'break' })
  else if (some('tool-never-answers', 0.2)) steps.push({ end: 'never' })
  else if (some('tool-kills', 0.2)) steps.push({ end: 'kill' })
  return steps
}

/** Milliseconds after which a slow store has the record of a run. */
const SLOW = 2000

/** Was it run again, though the store had not lost that it was? */
export function isRepeated(
  runs: readonly Run[],
  isForgotten: (from: number, to: number) => boolean,
): boolean {
  // The record stands a moment before the app begins, and is what the store may lose.
  return runs.slice(0, -1).some(({ began }) => !isForgotten(began - SLOW, began + SLOW))
}

export interface CallOptions {
  readonly client: SimulatedClient
  readonly ledger: Ledger
  readonly violations: Violations
  readonly name: string
  readonly tool: 'safe' | 'unsafe'
  readonly steps: readonly Step[]
  /** Cancels after so many milliseconds. */
  readonly cancelAfter: number | undefined
  readonly sleep: (ms: number) => Promise<void>
  readonly now: () => number
  /** The store may have lost what the client said of itself. */
  readonly mayForget: boolean
  /** Has the store lost anything of that time? */
  readonly isForgotten: (from: number, to: number) => boolean
  /** Did that process leave before what ran there was over? It waits for no record then, and says what it knows. */
  readonly isOverdue: (process: string) => boolean
  /** Did some node not reach the store since then? It serves what it has, and may not know of what was said at the next owner. */
  readonly isCutOffSince: (moment: number) => boolean
  /** Is that longer ago than a ttl, and was some process harmed meanwhile? Who is held up for so long finds events gone. */
  readonly isOutlived: (moment: number) => boolean
  /** Is it half a ttl ago? */
  readonly isOld: (moment: number) => boolean
  /** Was any process or its way to the store harmed since then? */
  readonly harmedSince: (moment: number) => boolean
  /** How often that has happened. */
  readonly harms: () => number
  /** How often that call was begun, as the store knows. */
  readonly runsOf: (call: string) => number
  /** Has the store refused events of that session? What it refused is lost to whoever was not there. */
  readonly isUnstored: (session: string) => boolean
}

/** One call of a careful client: made at some node, resumed at others until it has its answer; then everything is checked. */
export class ClientCall {
  readonly #options: CallOptions
  #began = 0
  /** When it was made, or heard of last. */
  #heardAt = 0
  /** It was heard of once when what had been said meanwhile might be gone. */
  #late = false

  constructor(options: CallOptions) {
    this.#options = options
  }

  async run(): Promise<void> {
    const { client, ledger, tool, steps, now, mayForget } = this.#options
    const kills = steps.some((step) => 'end' in step && step.end === 'kill')
    const hangs = steps.some((step) => 'end' in step && step.end === 'never')
    let { name } = this.#options
    let called: Called | undefined
    let id = 0
    let heard = new Heard(name, this.#options.violations)
    let answer: Message | undefined
    await client.insist(`call ${name}`, async () => {
      if (client.gone || (client.left && hangs)) return true
      if (heard.last === undefined) {
        // Whoever has seen the server die of a call makes it no third time.
        if (name.endsWith('++') && kills) return true
        // Without an id nothing is known of the call: it was lost with its connection, and the user makes another.
        ledger.left(name)
        if (called) name += '+'
        called = ledger.call(name, steps, tool === 'safe')
        id = client.nextId()
        heard = new Heard(name, this.#options.violations)
        this.#began = now()
        this.#heardAt = now()
      }
      const body =
        heard.last === undefined
          ? { jsonrpc: '2.0', id, method: 'tools/call', params: { name: tool, arguments: { name } } }
          : undefined
      if (body) this.#cancelLater(called!, id, hangs)
      const onMessage = (message: Message) => {
        this.#late ||= this.#options.isOutlived(this.#heardAt)
        this.#heardAt = now()
        if (message.method === undefined && message.id === id) {
          if (answer) this.#violation('once', `${name} was answered twice`)
          answer = message
        } else if (message.method === undefined)
          this.#violation('truth', `${name}: an answer to ${message.id}`)
      }
      const outcome = await client.listen(heard, body, onMessage, (hangUp) => {
        this.#hangUp = hangUp
      })
      const whole = !outcome.streamed && outcome.status === 200 && outcome.how === 'ended' && body
      if (whole) answer = outcome.text === '' ? undefined : (JSON.parse(outcome.text) as Message)
      if (outcome.status === 500) this.#judge500(called!, outcome.text)
      if (outcome.status === 204 && !answer && !called!.cancelled)
        this.#violation('truth', `${name}: 204, and no answer`)
      // What is made again may be refused by the app itself; and of what the store has lost nobody knows that it was made.
      const isBusy = called!.repeatable && outcome.text === 'Busy.'
      const isLost = this.#options.isForgotten(this.#began, now())
      if (outcome.status === 503 && body && called!.runs.length > 0 && !isBusy && !isLost) {
        this.#violation('retry', `${name}: 503, and it was run`)
      }
      // The answer may have been cut off behind its last byte.
      if (answer) return true
      if (called!.cancelled && (outcome.how === 'ended' || hangs)) return true
      if (whole) return called!.cancelled
      // What could not be stored (or was forgotten, or has expired) and was not heard is lost; its client hears that there is nothing more.
      const mayBeLost = this.#isUnstored() || mayForget || this.#isExpired(called!, heard)
      return outcome.how === 'ended' && outcome.streamed && mayBeLost && heard.last !== undefined
    })
    ledger.left(name)
    await this.#cancelled
    if (!answer || !called) return
    if (!heard.unstored && !this.#isUnstored() && !this.#options.mayForget)
      called.answered = this.#options.now()
    this.#check(called, heard, answer)
  }

  #cancelled: Promise<void> | undefined
  #hangUp: (() => void) | undefined

  /** A call that is never answered is cancelled in the end, or its client goes away. */
  #cancelLater(called: Called, id: number, hangs: boolean): void {
    const { cancelAfter, client, sleep } = this.#options
    if (cancelAfter === undefined && !hangs) return
    this.#cancelled = (async () => {
      await sleep(cancelAfter ?? 500)
      if (client.gone || client.left) return
      called.cancelled = true
      await client.notify('notifications/cancelled', { requestId: id })
      if (!hangs) return
      // It may have overtaken the call; then there is nothing to wait for.
      await sleep(1000)
      this.#hangUp?.()
    })()
  }

  #check(called: Called, heard: Heard, answer: Message): void {
    const { name, runs, repeatable, steps } = called
    if (!repeatable && isRepeated(runs, this.#options.isForgotten))
      this.#violation('runs', `${name} must not be repeated, and ran ${runs.length} times`)
    if (answer.error) {
      this.#checkError(called, answer.error)
      return
    }
    const [{ text }] = answer.result!['content'] as [{ text: string }]
    const told = JSON.parse(text) as {
      name: string
      run: number
      told: number
      heard: { content: { text: string } }[]
    }
    if (told.name !== name) this.#violation('truth', `${name} got the answer of ${told.name}`)
    const run = runs.find(({ number }) => number === told.run)
    if (!run?.answered)
      this.#violation('truth', `${name} was answered by run ${told.run}, which is not known`)
    const asked = steps
      .filter((step) => 'ask' in step)
      .map(({ question }) => reply(`${question}#${told.run}`))
    const answers = told.heard.map((each) => each.content.text)
    if (JSON.stringify(asked) !== JSON.stringify(answers)) {
      this.#violation('truth', `${name} asked ${asked.length} questions and got ${JSON.stringify(answers)}`)
    }
    this.#checkNotifications(name, heard, told)
  }

  /** What the run that answered has told came in its order and is all there; of others a beginning may be. */
  #checkNotifications(name: string, heard: Heard, told: { run: number; told: number }): void {
    // Of what has expired its owner cannot tell whether the store had it, and says it once more.
    const { isForgotten, isOutlived, now } = this.#options
    if (heard.unstored || this.#late || isOutlived(this.#began)) return
    const lossy = this.#isUnstored() || isForgotten(this.#began, now())
    const numbers = new Map<number, number>()
    for (const { method, params } of heard.messages) {
      if (method !== 'notifications/message') continue
      const data = params!['data'] as { call: string; run: number; number: number }
      if (data.call !== name) this.#violation('truth', `${name} heard of ${JSON.stringify(data)}`)
      const before = numbers.get(data.run) ?? 0
      if (lossy ? data.number <= before : data.number !== before + 1) {
        this.#violation(
          'complete',
          `${name}: notification ${data.number} of run ${data.run} came after ${before}`,
        )
        return
      }
      numbers.set(data.run, data.number)
    }
    const last = numbers.get(told.run) ?? 0
    if (!lossy && heard.last !== undefined && last !== told.told) {
      this.#violation('complete', `${name}: run ${told.run} told ${told.told} things, and ${last} were heard`)
    }
  }

  #checkError(called: Called, error: NonNullable<Message['error']>): void {
    const { name, repeatable, runs, steps } = called
    const { harmedSince, harms, runsOf } = this.#options
    const ends = (end: string) => steps.some((step) => 'end' in step && step.end === end)
    const message = `${name}: ${error.message}`
    if (/^the tool failed in run/.test(error.message)) {
      if (!ends('throw')) this.#violation('truth', `${message}, and it did not`)
    } else if (/^nobody answered run/.test(error.message)) {
      // Whose standalone stream broke within its first event cannot say what it missed.
      const { cannotResume, missed } = this.#options.client
      if (!this.#options.mayForget && !this.#late && !cannotResume && !missed)
        this.#violation('truth', message)
    } else if ((error.data as { reason?: string } | undefined)?.reason === 'interrupted') {
      // Its end may also have been told to those who listened, and refused by the store: for the next owner the call is open.
      // And what another node was asked for so long ago may have been recorded, and the record have expired.
      const isOld = this.#options.isOld(this.#began)
      if (!harmedSince(this.#began) && !this.#isUnstored() && !isOld)
        this.#violation('truth', `${message}, and every process went on`)
      // Which of the calls has taken its process with it, nobody knows: what was begun in two that died is not begun again.
      // (The store knows of it before the app does, so the second may have died in between.)
      const isLeft = runs.some(({ process }) => this.#options.isOverdue(process))
      // And what may have run is not run again where the store refuses its record.
      if (repeatable && !isLeft && !this.#isUnstored() && !(runsOf(name) > 1 && harms() > 1))
        this.#violation('truth', `${message}, and it could be repeated`)
    } else if (/^The server (ended the stream|broke off|could not run|answered)/.test(error.message)) {
      if (!ends('break') && !harmedSince(this.#began)) this.#violation('truth', `${message}, and it did not`)
    } else if (/not initialized/.test(error.message)) {
      if (!this.#options.isCutOffSince(this.#began)) this.#violation('state', message)
    } else if (/^Nobody waited/.test(error.message)) {
      if (!this.#late) this.#violation('truth', message)
    } else if (!/could not be stored/.test(error.message)) this.#violation('truth', message)
  }

  #judge500(called: Called, text: string): void {
    const breaks = called.steps.some((step) => 'end' in step && step.end === 'break')
    if (!breaks && !called.cancelled) this.#violation('throws', `${called.name}: 500 ${text}`)
  }

  /** Open in the log is only what a process took with it: that does not expire, and somebody settles it. */
  #isExpired({ runs }: Called, { missed }: Heard): boolean {
    const { isOutlived } = this.#options
    if (runs.length === 0 || runs.some(({ killed }) => killed)) return false
    return missed || runs.every(({ ended }) => ended !== undefined && isOutlived(ended))
  }

  #isUnstored(): boolean {
    return this.#options.isUnstored(this.#options.client.session!)
  }

  #violation(
    invariant: 'once' | 'truth' | 'retry' | 'state' | 'complete' | 'runs' | 'throws',
    message: string,
  ): void {
    this.#options.violations.add(invariant, message)
  }
}
