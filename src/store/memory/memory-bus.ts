import { refuseTooLong } from '../common/refusals.ts'
import type { Bus, Subscription } from '../port.ts'
import type { MemoryNodes } from './memory-nodes.ts'

type OnWake = (text: string | undefined) => void
type OnMessage = (message: Uint8Array | undefined) => void

export class MemoryBus implements Bus {
  readonly #channels = new Map<string, Set<OnWake>>()
  readonly #receivers = new Map<string, Set<OnMessage>>()
  readonly #nodes: MemoryNodes
  readonly #assertOpen: () => void

  constructor(nodes: MemoryNodes, assertOpen: () => void) {
    this.#nodes = nodes
    this.#assertOpen = assertOpen
  }

  async send(nodeId: string, message: Uint8Array): Promise<boolean> {
    this.#assertOpen()
    refuseTooLong(message)
    if (!this.#nodes.live(nodeId)) return false
    // As across processes: a receiver never runs inside the call that told it.
    for (const onMessage of this.#receivers.get(nodeId) ?? []) {
      queueMicrotask(() => {
        if (this.#receivers.get(nodeId)?.has(onMessage)) onMessage(message)
      })
    }
    return true
  }

  async receive(nodeId: string, onMessage: OnMessage): Promise<Subscription> {
    this.#assertOpen()
    const receivers = this.#receivers.get(nodeId) ?? new Set()
    this.#receivers.set(nodeId, receivers.add(onMessage))
    return {
      close: async () => {
        receivers.delete(onMessage)
        if (receivers.size === 0) this.#receivers.delete(nodeId)
      },
    }
  }

  async publish(channel: string, text: string): Promise<number> {
    this.#assertOpen()
    // As across processes: a listener never runs inside the call that woke it.
    const listeners = [...(this.#channels.get(channel) ?? [])]
    for (const onWake of listeners) {
      queueMicrotask(() => {
        if (this.#channels.get(channel)?.has(onWake)) onWake(text)
      })
    }
    return listeners.length
  }

  async subscribe(channel: string, onWake: OnWake): Promise<Subscription> {
    this.#assertOpen()
    const listeners = this.#channels.get(channel) ?? new Set()
    this.#channels.set(channel, listeners)
    listeners.add(onWake)
    return {
      close: async () => {
        listeners.delete(onWake)
        if (listeners.size === 0) this.#channels.delete(channel)
      },
    }
  }

  close(): void {
    this.#channels.clear()
    this.#receivers.clear()
  }
}
