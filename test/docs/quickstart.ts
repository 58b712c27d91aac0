import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { errorText } from '../../src/errors.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { freePort } from '../support/net/listen.ts'
import { HostProcess } from '../support/process.ts'

const run = promisify(execFile)
const readme = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8')

/** The blocks of a language, in order. */
const blocks = (language: string) =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, code]) => code!)

/**
 * The README's quick start, pasted into `folder`, which has the packages of its first line: two processes, a session that
 * the README's own commands open at one and use at the other, and one that outlives both. Rejects with what went wrong.
 */
export async function quickStart(folder: string, node = process.execPath): Promise<void> {
  await writeFile(join(folder, 'server.mjs'), blocks('ts')[0]!)
  const [first, second] = await Promise.all([start(folder, node), start(folder, node)])
  try {
    const commands = blocks('sh')
      .find((block) => block.startsWith('ask()'))!
      .replaceAll('3000', first.port)
      .replaceAll('3001', second.port)
    const { stdout } = await run('bash', ['-c', commands], { timeout: 30_000 })
    assert.match(stdout, new RegExp(`process ${first.host.pid}"`), 'the owner answers at the other process')

    const client = await RawClient.open(`http://127.0.0.1:${first.port}/mcp`)
    try {
      assert.match(await client.tool('where'), new RegExp(`process ${first.host.pid}$`))
      await Promise.all([first.host.kill(), second.host.kill()])
      await first.host.start()
      assert.match(await client.tool('where'), new RegExp(`process ${first.host.pid}$`))
    } finally {
      client.close()
    }
    assert.equal(await first.host.stop(), 0, 'SIGTERM ends it in good order')
  } catch (error) {
    throw new Error(`${errorText(error)}\n${first.host.output}\n${second.host.output}`, { cause: error })
  } finally {
    await Promise.all([first.host.kill(), second.host.kill()])
  }
}

async function start(folder: string, node: string): Promise<{ host: HostProcess; port: string }> {
  const port = String(await freePort())
  const env = { PORT: port, MCP_PERSIST_URL: undefined }
  const host = await HostProcess.start({ args: ['server.mjs'], node, env, cwd: folder, ready: /^ready$/m })
  return { host, port }
}
