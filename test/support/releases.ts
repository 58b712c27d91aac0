import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { Versions } from '../../src/versions.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** What a process must be given to run another build than `dist/` (see `package.ts`). */
export interface Release {
  readonly env: { readonly MCP_PERSIST_ENTRY: string | undefined }
}

export interface Understands {
  readonly messages: Versions
  readonly reads: Versions
  readonly writes: number
}

/** This one: what stands in `dist/`. */
export const NOW: Release = { env: { MCP_PERSIST_ENTRY: undefined } }

/** Builds beside the one under test, each unpacked into a folder of its own that finds the same dependencies. */
export class Releases {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  static async unpack(): Promise<Releases> {
    return new Releases(await mkdtemp(join(tmpdir(), 'mcp-persist-releases-')))
  }

  /** The release before, as `npm pack` made it. */
  async before(): Promise<Release> {
    const packed = join(root, 'test/upgrade/neighbour')
    const [tarball] = (await readdir(packed)).filter((file) => file.endsWith('.tgz'))
    const folder = await this.#newFolder('before')
    await promisify(execFile)('tar', ['-xzf', join(packed, tarball!), '-C', folder, '--strip-components=1'])
    return release(folder)
  }

  /** A release to come: this one, with other versions. */
  async later(name: string, { messages, reads, writes }: Understands): Promise<Release> {
    const folder = await this.#newFolder(name)
    for (const part of ['dist', 'migrations', 'package.json'])
      await cp(join(root, part), join(folder, part), { recursive: true })
    const file = await holder(join(folder, 'dist'), 'var FORMATS = ')
    const text = replaced(
      replaced(
        await readFile(file, 'utf8'),
        /var MESSAGES = .*;/,
        `var MESSAGES = ${JSON.stringify(messages)};`,
      ),
      /var FORMATS = .*;/,
      `var FORMATS = ${JSON.stringify({ reads, writes })};`,
    )
    await writeFile(file, text)
    return release(folder)
  }

  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #newFolder(name: string): Promise<string> {
    const folder = join(this.#folder, name)
    await mkdir(folder)
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
    return folder
  }
}

function release(folder: string): Release {
  return { env: { MCP_PERSIST_ENTRY: pathToFileURL(join(folder, 'dist/index.js')).href } }
}

/** The one file of a build in which something stands. */
async function holder(folder: string, text: string): Promise<string> {
  const files = (await readdir(folder))
    .filter((name) => name.endsWith('.js'))
    .map((name) => join(folder, name))
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')))
  const found = files.filter((_, index) => texts[index]!.includes(text))
  if (found.length !== 1) throw new Error(`${found.length} files of the build have ${text}`)
  return found[0]!
}

function replaced(text: string, what: RegExp, by: string): string {
  if (!what.test(text)) throw new Error(`${what} does not stand in the build.`)
  return text.replace(what, by)
}
