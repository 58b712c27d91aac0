import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { run } from '../cli/support.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { program } from '../support/programs.ts'
import { childrenOf, isAlive, killServe, type ServeOptions, startServe } from '../support/serve-command.ts'
import { until, within } from '../support/wait.ts'

vi.setConfig({ testTimeout: 60_000 })

const server = [process.execPath, program('support/hosts/http10.ts')]

async function folderOf(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-serve-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

async function serve(options: Partial<ServeOptions> & { readonly command: readonly string[] }) {
  const host = await startServe({ store: `sqlite:${join(await folderOf(), 'mcp.db')}`, ...options })
  onTestFinished(() => killServe(host))
  return { host, url: `${host.origin}/mcp` }
}

/** Does its work in the shell, and becomes the server. */
function shell(script: string, ...args: readonly string[]): string[] {
  return ['sh', '-c', script, 'sh', ...args]
}

const INITIALIZE = {
  method: 'POST',
  headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
  body: JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
  }),
}

describe('the server of serve', () => {
  it('dies: 503 until it is back, then its sessions go on', async () => {
    const mark = join(await folderOf(), 'mark')
    // The second start takes its time.
    const { host, url } = await serve({
      command: shell('test -e "$1" && sleep 1.5; touch "$1"; shift; exec "$@"', mark, ...server),
    })
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    expect(await client.tool('counter')).toBe('1')
    process.kill(childrenOf(host.pid)[0]!, 'SIGKILL')
    await until('it is missed', () => host.output.includes('cannot be reached'))
    const refused = await fetch(url, INITIALIZE)
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    const said = /^mcp-persist: "sh" was ended by SIGKILL; it is started again in 100 ms$/m
    await until('the reason', () => said.test(host.output))
    await until('it is back', () => host.output.includes('the app is back'))
    expect(await client.tool('counter')).toBe('1')
  })

  it('exits in good order again and again: it is started again, and each time later', async () => {
    const ends = `setTimeout(() => process.exit(0), 300)
      require('node:http').createServer((_, res) => res.end()).listen(process.env.PORT)`
    const { host } = await serve({ command: [process.execPath, '-e', ends] })
    await until('three times', () => host.output.includes('again in 400 ms'))
    const waits = [...host.output.matchAll(/^mcp-persist: .* exited with code 0; .* in (\d+) ms$/gm)]
    expect(waits.map(([, ms]) => ms)).toEqual(['100', '200', '400'])
    expect(host.running).toBe(true)
    expect(await within('the end', host.stop())).toBe(0)
  })

  it('has its port in PORT and for {port}, its input open, our environment but the store, its output marked', async () => {
    const script = `
      process.stdin.resume().once('end', () => process.exit())
      console.log('first\\nsecond'); process.stderr.write('no end')
      console.log([process.env.PORT === process.argv[1], process.env.MCP_PERSIST_TTL, process.env.npm_config_package, process.env.MINE].join())
      require('node:http').createServer((_, res) => res.end()).listen(process.argv[1])`
    const { host } = await serve({
      command: [process.execPath, '-e', script, '{port}'],
      env: { MINE: 'mine', MCP_PERSIST_TTL: '60', npm_config_package: 'mcp-persist' },
    })
    for (const line of ['first', 'second', 'true,,,mine']) expect(host.output).toContain(`[node] ${line}\n`)
    const [pid] = childrenOf(host.pid)
    expect(isAlive(pid!)).toBe(true)
    expect(await host.stop()).toBe(0)
    expect(host.output).toContain('[node] no end\n')
    expect(isAlive(pid!)).toBe(false)
  })

  it('ends with all that it has started, also when only its first process dies', async () => {
    const file = join(await folderOf(), 'pids')
    // As npx and many a start script do: the server is another process.
    const command = shell('file=$1; shift; "$@" & echo $! >> "$file"; wait', file, ...server)
    const { host } = await serve({ command })
    const pids = () => readFileSync(file, 'utf8').trim().split('\n').map(Number)
    const [first] = pids()
    process.kill(childrenOf(host.pid)[0]!, 'SIGKILL')
    await until('the next start', () => pids().length === 2)
    expect(isAlive(first!)).toBe(false)
    await until('it is back', async () => (await fetch(`${host.origin}/mcp`, INITIALIZE)).status === 200)
    expect(await host.stop()).toBe(0)
    expect(pids().filter(isAlive)).toEqual([])
  })

  it('does not end when it is told to: it is killed', async () => {
    const script = `process.on('SIGTERM', () => console.log('never'))
      require('node:http').createServer((_, res) => res.end()).listen(process.env.PORT)`
    const { host } = await serve({ command: [process.execPath, '-e', script], flags: ['--grace', '300'] })
    const [pid] = childrenOf(host.pid)
    expect(await within('the end', host.stop(), 15_000)).toBe(0)
    expect(host.output).toContain('[node] never')
    expect(isAlive(pid!)).toBe(false)
  })

  it('is left alone when serve is killed: its input ends, and the next serve starts on another port', async () => {
    const { host, url } = await serve({ command: server })
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    const [orphan] = childrenOf(host.pid)
    onTestFinished(() => void process.kill(orphan!, 'SIGKILL'))
    await host.kill('SIGKILL')
    // This one does not care for its input: it is in nobody's way.
    expect(isAlive(orphan!)).toBe(true)
    await host.start()
    expect((await RawClient.open(`${host.origin}/mcp`)).session).not.toBe(client.session)
    const again = client.clone(`${host.origin}/mcp`)
    expect(await again.tool('counter')).toBe('1')
  })

  it('is ended at once by a second signal', async () => {
    const { host, url } = await serve({ command: server, flags: ['--deadline', '30000'] })
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    const [pid] = childrenOf(host.pid)
    const stream = await client.stream(client.toolCall('slow'))
    await until('progress', () => stream.messages.length > 0)
    const ended = host.kill('SIGINT')
    await until('it drains', () => host.output.includes('running calls'))
    process.kill(host.pid, 'SIGINT')
    expect(await within('the end', ended, 5000)).toBe(1)
    await until('the server to end', () => !isAlive(pid!))
  })
})

describe('serve is told to end', () => {
  it.each([
    ['while its server waits to be started again', 'test -e "$1" && exit 1', 'again in 400 ms'],
    ['while its server is being started again', 'test -e "$1" && exec sleep 1000', 'again in 100 ms'],
  ])('%s', async (_, second, said) => {
    const mark = join(await folderOf(), 'mark')
    const { host } = await serve({
      command: shell(`${second}; touch "$1"; shift; exec "$@"`, mark, ...server),
    })
    process.kill(childrenOf(host.pid)[0]!, 'SIGKILL')
    await until(said, () => host.output.includes(said))
    const left = childrenOf(host.pid)
    expect(await within('the end', host.stop(), 15_000)).toBe(0)
    expect(left.filter(isAlive)).toEqual([])
  })

  it('before its server has answered', async () => {
    const command = [
      'serve',
      '--url',
      'memory:',
      '--port',
      '0',
      '--',
      ...shell('echo begun; exec sleep 1000'),
    ]
    const outcome = await run(command, {
      onOutput: (output, child) => {
        if (output.includes('[sh] begun')) child.kill('SIGTERM')
      },
    })
    expect([outcome.code, outcome.stderr]).toEqual([0, ''])
  })
})

describe('a command that cannot start', () => {
  const store = ['--url', 'memory:', '--port', '0']

  it.each([
    [
      'exits',
      [process.execPath, '-e', 'process.exit(7)'],
      7,
      /exited with code 7 before it answered at http:\S+\/mcp\.$/,
    ],
    ['exits in good order', [process.execPath, '-e', ''], 1, /exited with code 0 before it answered/],
    [
      'is not there',
      ['no-such-command'],
      127,
      /"no-such-command" could not be started \(spawn .* ENOENT\): is it installed/,
    ],
  ])('%s', async (_, command, code, sentence) => {
    const outcome = await run(['serve', ...store, '--', ...command])
    expect(outcome.stderr).toMatch(/^error: [^\n]+\n$/)
    expect(outcome.stderr.trim()).toMatch(sentence)
    expect(outcome.code).toBe(code)
  })

  it('never answers: what was tried is named, and it is ended', async () => {
    const pidFile = join(await folderOf(), 'pid')
    const command = shell('echo $$ > "$1"; exec sleep 1000', pidFile)
    const outcome = await run(['serve', ...store, '--start-timeout', '0.5', '--', ...command])
    expect(outcome.stderr).toMatch(
      /did not answer at http:\/\/localhost:\d+\/mcp within 0\.5 s \(connect ECONNREFUSED/,
    )
    expect(outcome.stderr).toMatch(/as PORT, and as \{port\}.*--upstream.*--stdio/)
    expect(outcome.code).toBe(1)
    expect(isAlive(Number(readFileSync(pidFile, 'utf8')))).toBe(false)
  })

  it('over stdio, and never answers or ends', async () => {
    const silent = await run(['serve', ...store, '--stdio', '--start-timeout', '0.5', '--', 'sleep', '1000'])
    expect(silent.stderr).toMatch(/"sleep" cannot be served over stdio: no answer within 0\.5 s/)
    const gone = await run(['serve', ...store, '--stdio', '--', process.execPath, '-e', ''])
    expect(gone.stderr).toMatch(/cannot be served over stdio: .*ended before it had answered/)
    expect([silent.code, gone.code]).toEqual([1, 1])
  })

  it('is told before the port is, and a port that is taken has its sentence', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void other.close())
    await until('it', () => other.listening)
    const { port } = other.address() as { port: number }
    const outcome = await run(['serve', '--url', 'memory:', '--port', String(port), '--', ...server])
    expect(outcome.stderr).toContain(
      `error: Port ${port} of 127.0.0.1 is taken (EADDRINUSE); give another one with --port.`,
    )
    expect(outcome.code).toBe(2)
  })
})

describe('wrong use', () => {
  it.each([
    [['serve'], /name what starts the server after --/],
    [['serve', '--upstream', 'localhost'], /--upstream must be a URL/],
    [['serve', '--upstream', 'http://localhost:1/mcp', '--', 'node'], /leave the command/],
    [['serve', '--ttl', 'soon', '--', 'node'], /--ttl \(or MCP_PERSIST_TTL\) must be a number/],
    [['serve', '--port', '70000', '--', 'node'], /--port .*a port from 0 to 65535/],
    [['serve', '--sessions', 'some', '--', 'node'], /"sessions" must be 'shared' or 'sticky'/],
  ])('%s', async (args, sentence) => {
    const outcome = await run(args, { env: { MCP_PERSIST_URL: 'memory:' } })
    expect(outcome.stderr).toMatch(/^error: [^\n]+\n$/)
    expect(outcome.stderr).toMatch(sentence)
    expect(outcome.code).toBe(2)
  })
})

describe('serve on loopback', () => {
  async function statusFor(origin: string, host: string): Promise<number> {
    const { request } = await import('node:http')
    return new Promise((resolve, reject) => {
      const sent = request(
        `${origin}/mcp`,
        { ...INITIALIZE, headers: { ...INITIALIZE.headers, host } },
        (res) => {
          res.resume()
          resolve(res.statusCode!)
        },
      )
      sent.on('error', reject)
      sent.end(INITIALIZE.body)
    })
  }

  it('answers to names of loopback, and to those that it was given', async () => {
    const { host } = await serve({ command: server, flags: ['--allowed-hosts', 'mcp.example.com'] })
    const names = [
      'localhost:3000',
      '127.0.0.1',
      '[::1]:80',
      'MCP.example.com',
      'evil.example',
      'localhost.evil.example',
    ]
    const found = await Promise.all(names.map((name) => statusFor(host.origin, name)))
    expect(found).toEqual([200, 200, 200, 200, 403, 403])
  })

  it('answers to any name where it was told to', async () => {
    const { host } = await serve({ command: server, flags: ['--allowed-hosts', '*'] })
    expect(await statusFor(host.origin, 'anything.example')).toBe(200)
  })
})

describe('serve --upstream', () => {
  it('persists the sessions of a server that runs already, at the path of its URL', async () => {
    const upstream = await serve({ command: server, flags: ['--path', '/v1/mcp'] })
    const { host } = await serve({ command: [], flags: ['--upstream', `${upstream.host.origin}/v1/mcp`] })
    expect(host.output).toContain(`/v1/mcp from ${upstream.host.origin}/v1/mcp, with sqlite:`)
    const client = await RawClient.open(`${host.origin}/v1/mcp`)
    onTestFinished(() => client.close())
    expect(await client.tool('counter')).toBe('1')
    await host.stop()
    await host.start()
    // The session is the same to its client; at the server it is a new one.
    expect(await client.clone(`${host.origin}/v1/mcp`).tool('counter')).toBe('1')
  })
})
