import type { NodeTable } from '../port.ts'

/** The nodes of this process, as far as they were registered through this store object. */
export interface LocalNodes {
  /** Undefined: none is registered now. */
  readonly current: string | undefined
  /** Is, or was, it one of ours? A node whose lease lapsed comes back under another id, and its work goes on. */
  has(id: string): boolean
}

/** Makes `nodes` remember which of them are in this process. */
export function rememberLocalNodes(nodes: NodeTable): LocalNodes {
  const register = nodes.register.bind(nodes)
  const unregister = nodes.unregister.bind(nodes)
  const known = new Set<string>()
  const registered = new Set<string>()
  nodes.register = async (node, lease) => {
    known.add(node.id)
    await register(node, lease)
    registered.add(node.id)
  }
  nodes.unregister = async (id) => {
    registered.delete(id)
    await unregister(id)
  }
  return {
    get current() {
      return [...registered].at(-1)
    },
    has: (id) => known.has(id),
  }
}
