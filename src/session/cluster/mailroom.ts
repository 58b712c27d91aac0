import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import { type Bus, type NodeTable, nodeChannel, type Subscription } from '../../store/port.ts'
import type { Identity } from '../ownership/membership.ts'
import type { Letter } from './letters.ts'
import { Opener, Sealer } from './sealing.ts'

export interface MailroomOptions {
  readonly bus: Bus
  readonly nodes: NodeTable
  readonly logger: Logger
  readonly onLetter: (letter: Letter) => void
  readonly onWakeUps: (text: string) => void
}

/** The letters of this node: sealed and posted, collected and opened, in the order in which they were sent. */
export class Mailroom {
  readonly #options: MailroomOptions
  readonly #sealer = new Sealer()
  /** A node's key never changes, and an id is never used again. */
  readonly #publicKeys = new Map<string, string>()
  #identity: Identity | undefined
  #opener: Opener | undefined
  #subscription: Subscription | undefined
  #collecting: Promise<void> | undefined
  #again = false

  constructor(options: MailroomOptions) {
    this.#options = options
  }

  /** Receives for `identity` from now on; a node that comes back under a new one calls it again. */
  async open(identity: Identity): Promise<void> {
    await this.close()
    this.#identity = identity
    this.#opener = new Opener(identity.privateKey)
    this.#subscription = await this.#options.bus.subscribe(nodeChannel(identity.id), (text) => {
      if (text === undefined) void this.collect()
      else this.#options.onWakeUps(text)
    })
    void this.collect()
  }

  /** False: that node is gone. */
  async post(nodeId: string, letter: Letter): Promise<boolean> {
    const { bus, nodes } = this.#options
    let publicKey = this.#publicKeys.get(nodeId)
    if (publicKey === undefined) {
      publicKey = (await nodes.get(nodeId))?.publicKey
      if (publicKey === undefined) return false
      if (this.#publicKeys.size >= 1024) this.#publicKeys.clear()
      this.#publicKeys.set(nodeId, publicKey)
    }
    return bus.post(nodeId, this.#sealer.seal(publicKey, Buffer.from(JSON.stringify(letter))))
  }

  /** Takes what is in the mailbox. One collector at a time keeps the letters in order. */
  collect(): Promise<void> {
    this.#again = true
    this.#collecting ??= this.#collect().finally(() => {
      this.#collecting = undefined
    })
    return this.#collecting
  }

  async close(): Promise<void> {
    const subscription = this.#subscription
    this.#subscription = undefined
    await subscription?.close()
    await this.#collecting
  }

  async #collect(): Promise<void> {
    const { bus, logger, onLetter } = this.#options
    const identity = this.#identity
    try {
      // A letter that comes while we look wakes us in vain: look once more before going back to sleep.
      while (this.#again && identity) {
        this.#again = false
        const letters = await bus.collect(identity.id)
        if (letters.length > 0) this.#again = true
        for (const letter of letters) {
          const opened = this.#openLetter(letter)
          if (opened) onLetter(opened)
        }
      }
    } catch (error) {
      logger.warn(
        { operation: 'collect', error: errorText(error) },
        'the mailbox could not be read; tried again soon',
      )
    }
  }

  #openLetter(sealed: Uint8Array): Letter | undefined {
    try {
      return JSON.parse(this.#opener!.open(sealed).toString()) as Letter
    } catch (error) {
      this.#options.logger.error({ error: errorText(error) }, 'a letter could not be opened and was dropped')
      return undefined
    }
  }
}
