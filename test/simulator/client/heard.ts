import type { Message } from '../../../src/session/protocol/json-rpc.ts'
import type { Violations } from '../invariants/violations.ts'
import type { Frame } from './sse.ts'

/** What a client has heard on one stream, over all its connections. Order and "once" are looked at as it comes. */
export class Heard {
  readonly #what: string
  readonly #violations: Violations
  readonly #ids = new Set<string>()
  #position = 0
  #epoch = ''
  /** The last id, to resume after. */
  last: string | undefined
  readonly messages: Message[] = []
  /** It was told that something has expired before it could be shown. */
  missed = false
  /** Some came without an id: the store was away, and what is missing is missing. */
  unstored = false

  constructor(what: string, violations: Violations) {
    this.#what = what
    this.#violations = violations
  }

  /** Events heard that have an id. */
  get count(): number {
    return this.#ids.size
  }

  /** Asks without saying what was heard. */
  asFirst<T>(ask: () => T): T {
    const { last } = this
    this.last = undefined
    try {
      return ask()
    } finally {
      this.last = last
    }
  }

  /** The message of a frame, if it has one. */
  take({ id, data }: Frame): Message | undefined {
    if (id !== undefined) this.last = id
    if (data === undefined || data === '') return undefined
    if (id === undefined) this.unstored = true
    else this.#check(id)
    const message = JSON.parse(data) as Message
    this.messages.push(message)
    return message
  }

  #check(id: string): void {
    if (this.#ids.has(id)) this.#violations.add('once', `${this.#what}: event ${id} came twice`)
    this.#ids.add(id)
    const [digits, epoch] = id.split('.') as [string, string]
    const position = Number.parseInt(digits, 36)
    if (epoch === this.#epoch && position < this.#position) {
      this.#violations.add('order', `${this.#what}: event ${id} came after position ${this.#position}`)
    }
    this.#epoch = epoch
    this.#position = position
  }
}
