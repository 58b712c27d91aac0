import { randomBytes } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, statSync, unlinkSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { errorText } from '../../errors.ts'
import { FrameReader, frameHead } from './sqlite-frames.ts'

/** What the shortest of the systems takes for a socket's path, in bytes. */
const MAX_PATH = 103
/** How long a caller may take to say to whom it wants to speak, in ms. */
const HELLO_WITHIN = 5_000
/** A socket that is not in any row is left alone this long: its node may be about to register. Milliseconds. */
const GRACE = 60_000
/** Sockets that a sweep calls at the most, to see whether somebody is there. */
const SWEPT = 32

/** How long whoever is hung up on may take to notice, in ms. */
const FAREWELL = 200

type OnMessage = (message: Uint8Array | undefined) => void

interface Listening {
  readonly path: string
  readonly server: Server
  readonly callers: Set<Socket>
}

/**
 * The unix sockets on which the nodes of this process hear the other processes of the host. They lie in a folder that
 * only their user can enter, under random names, and a node's row says which is its own. A caller first says a nonce
 * and the node that it means, and hears just that again: so it knows that this is the node and not somebody who found
 * the place free. Where there can be no socket (Windows, a temporary folder that is shared or too long a path) the file
 * carries the messages.
 */
export class SqliteSockets {
  readonly #listening = new Map<string, Listening>()
  #folder: string | undefined
  #closed = false
  /** Why there is no socket. */
  problem: string | undefined

  /** Hears what is sent to a node, whole messages; undefined: some may have been lost. Never rejects. */
  async listen(nodeId: string, onMessage: OnMessage): Promise<void> {
    const callers = new Set<Socket>()
    const server = createServer((socket) => {
      callers.add(socket.on('close', () => callers.delete(socket)))
      hear(socket, nodeId, onMessage)
    })
    try {
      this.#folder = ownFolder()
      const path = join(this.#folder, randomBytes(12).toString('base64url'))
      await listening(server, path)
      if (this.#closed) return void server.close()
      server.unref()
      this.#listening.set(nodeId, { path, server, callers })
    } catch (error) {
      server.close()
      this.problem = `Nodes talk through the file, which is slower: they have no socket (${errorText(error)}).`
    }
  }

  pathOf(nodeId: string): string | null {
    return this.#listening.get(nodeId)?.path ?? null
  }

  /**
   * The node is no more: whoever talks to it is to look whether it is there. Resolves when all have noticed, or after a
   * moment: one that is stopped does not.
   */
  async hangUp(nodeId: string): Promise<void> {
    const callers = [...(this.#listening.get(nodeId)?.callers ?? [])]
    await Promise.all(callers.map((caller) => ended(caller, FAREWELL)))
  }

  /** Removes the socket of a dead node, if it lies where ours do: what a row says is no reason to delete any file. */
  remove(path: string): void {
    const ours = [...this.#listening.values()].some((listening) => listening.path === path)
    if (!ours && dirname(path) === this.#folder) remove(path)
  }

  /** Removes sockets at which nobody listens: of processes that were killed, and whose rows are gone. */
  async sweep(): Promise<void> {
    const old = oldFiles(this.#folder)
    // Any of them: those at which somebody listens are called in vain each time, and must not hide the others.
    const some = old.map((path) => ({ path, at: Math.random() })).sort((a, b) => a.at - b.at)
    await Promise.all(
      some.slice(0, SWEPT).map(async ({ path }) => {
        if (await isDeserted(path)) remove(path)
      }),
    )
  }

  stop(nodeId: string): void {
    const { server, callers } = this.#listening.get(nodeId) ?? {}
    this.#listening.delete(nodeId)
    for (const caller of callers ?? []) caller.destroy()
    // Closing removes the file.
    server?.close()
  }

  close(): void {
    this.#closed = true
    for (const nodeId of [...this.#listening.keys()]) this.stop(nodeId)
  }
}

function hear(socket: Socket, nodeId: string, onMessage: OnMessage): void {
  const reader = new FrameReader()
  let introduced = false
  socket.unref()
  socket.setTimeout(HELLO_WITHIN, () => socket.destroy())
  socket.on('data', (chunk) => {
    try {
      for (const frame of reader.read(chunk)) {
        if (introduced) onMessage(frame)
        else if (frame.subarray(NONCE).toString() !== nodeId) return socket.destroy()
        else {
          introduced = true
          socket.setTimeout(0)
          socket.write(Buffer.concat([frameHead(frame.length), frame]))
        }
      }
    } catch {
      socket.destroy()
    }
  })
  // What was on its way is lost with the connection. Nothing was, when it ends between two messages.
  socket.on('error', () => {})
  socket.on('close', () => {
    if (introduced && reader.unfinished) onMessage(undefined)
  })
}

/** Bytes of the nonce before the node's id. */
const NONCE = 16

/** What a caller says first, and hears again when it has found the node: a whole frame. */
export function hello(nodeId: string): Buffer {
  const body = Buffer.concat([randomBytes(NONCE), Buffer.from(nodeId)])
  return Buffer.concat([frameHead(body.length), body])
}

/** Ends a connection in order: what was said arrives. Resolves when it is closed, after `within` ms by force. */
export function ended(socket: Socket, within: number): Promise<void> {
  if (socket.destroyed) return Promise.resolve()
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(), within)
    socket.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.end()
  })
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    // In a worker of node:cluster the primary would listen in our place, and share it.
    server.listen({ path, exclusive: true }, () => {
      server.off('error', reject).on('error', () => {})
      resolve()
    })
  })
}

/** Empty where the folder has been removed. */
function oldFiles(folder: string | undefined): string[] {
  if (folder === undefined || !existsSync(folder)) return []
  const isOld = (path: string) => {
    const made = statSync(path, { throwIfNoEntry: false })?.mtimeMs
    return made !== undefined && Date.now() - made > GRACE
  }
  const old = readdirSync(folder)
    .map((name) => join(folder, name))
    .filter(isOld)
  // Not a socket: see `remove`.
  statSync(folder, { throwIfNoEntry: false })
  return old
}

/**
 * Without a look at it, as `rmSync` takes one: as long as the last file that was looked at is a socket, Node 20 resolves no
 * links, and a package that `import()` finds by a link (pnpm) does not find its own dependencies.
 */
function remove(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function isDeserted(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.unref().once('connect', () => socket.destroy())
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
    socket.once('close', () => resolve(false))
  })
}

/** A folder for all sockets of this user, which nobody else can enter. Throws where there is none to be had. */
function ownFolder(): string {
  const uid = process.getuid?.()
  if (uid === undefined) throw new Error('this system has none')
  const problems: string[] = []
  for (const temporary of new Set([tmpdir(), '/tmp'])) {
    const folder = join(temporary, `mcp-persist-${uid}`)
    try {
      if (Buffer.byteLength(folder) > MAX_PATH - '/1234567890123456'.length)
        throw new Error(`${folder} is too long`)
      if (!existsSync(folder)) mkdirSync(folder, { mode: 0o700 })
      const stats = lstatSync(folder)
      const own = stats.isDirectory() && stats.uid === uid && (stats.mode & 0o077) === 0
      if (own) return folder
      throw new Error(`${folder} is not private`)
    } catch (error) {
      problems.push(errorText(error))
    }
  }
  throw new Error(problems.join('; '))
}
