import { expect, it, onTestFinished } from 'vitest'
import { run } from '../cli/support.ts'
import { storeSpace } from '../support/backends.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { program } from '../support/programs.ts'
import { killServe, startServe } from '../support/serve-command.ts'

const command = [process.execPath, program('support/hosts/stdio.ts')]

/** Node's options with which packages cannot be found. */
function without(packages: string): Record<string, string> {
  const hooks = `export function resolve(name, context, next) {
    if (/^${packages}/.test(name)) throw new Error('not installed: ' + name)
    return next(name, context)
  }`
  const dataUrl = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`
  const registered = `import { register } from 'node:module'; register(${JSON.stringify(dataUrl(hooks))})`
  return { NODE_OPTIONS: `--import=${dataUrl(registered)}` }
}

it('a stdio server is served with the second SDK line where that is the one installed', async () => {
  const space = await storeSpace('sqlite')
  const env = without('@modelcontextprotocol\\/sdk')
  const host = await startServe({ store: space.url, flags: ['--stdio'], command, env })
  onTestFinished(async () => {
    await killServe(host)
    await space.remove()
  })
  const client = await OfficialClient.connect('v2', `${host.origin}/mcp`)
  onTestFinished(() => client.close())
  expect(await client.tool('counter')).toBe('1')
  expect(await client.tool('sample', { prompt: 'hi' })).toBe('hi -> answer(hi)')
  expect(await host.stop()).toBe(0)
})

it('where none is installed, the sentence says what to install', async () => {
  const env = without('@modelcontextprotocol')
  const outcome = await run(['serve', '--url', 'memory:', '--stdio', '--', ...command], { env })
  expect(outcome.stderr).toMatch(/^error: .*npm install @modelcontextprotocol\/sdk \(or /)
  expect(outcome.code).toBe(2)
})
