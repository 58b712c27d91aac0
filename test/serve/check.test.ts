import { createServer, type RequestListener } from 'node:http'
import { describe, expect, it, onTestFinished } from 'vitest'
import { json, run } from '../cli/support.ts'
import { everythingScript } from '../support/everything.ts'
import { listening } from '../support/net/listen.ts'
import { program } from '../support/programs.ts'

interface Found {
  readonly ok: boolean
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[]
}

async function found(args: readonly string[], code: 0 | 1): Promise<string[]> {
  const { ok, checks } = (await json(['serve', '--check', ...args], code)) as unknown as Found
  expect(ok).toBe(code === 0)
  return checks.map((each) => `${each.ok ? 'ok' : 'not'} ${each.name}: ${each.detail}`)
}

describe('serve --check of a server', () => {
  it.each([
    [
      'over HTTP',
      ['--', process.execPath, everythingScript(), 'streamableHttp'],
      /everything 2\S+, protocol 2025-11-25, answers as event stream$/,
    ],
    ['over stdio', ['--stdio', '--', process.execPath, everythingScript(), 'stdio'], /everything/],
    [
      'that speaks HTTP/1.0',
      ['--', process.execPath, program('support/hosts/http10.ts')],
      /http10 1, protocol 2025-11-25, answers as JSON$/,
    ],
  ])('%s', async (_, args, endpoint) => {
    const checks = await found(['--json', ...args], 0)
    expect(checks[0]).toMatch(endpoint)
    expect(checks.slice(1)).toEqual([
      'ok session: it hands out session ids',
      expect.stringMatching(/^ok tools: \d+ on the first page, \d+ of which say that they may be run again/),
    ])
  })

  it('of the old transport', async () => {
    const checks = await found(['--json', '--', process.execPath, everythingScript(), 'sse'], 1)
    expect(checks).toEqual([
      expect.stringMatching(/^not endpoint: it speaks the old HTTP\+SSE transport, at \/sse/),
    ])
  })

  async function served(listener: RequestListener): Promise<string[]> {
    const { origin, close } = await listening(createServer(listener).listen(0, '127.0.0.1'))
    onTestFinished(close)
    return ['--json', '--upstream', `${origin}/mcp`]
  }

  it.each([
    ['at another path', 404, 'text/plain', '', /nothing at \/mcp \(404\); give its path with --path/],
    ['that wants credentials', 401, 'text/plain', '', /wants credentials \(401\)/],
    ['that is out of order', 500, 'text/plain', '', /answered initialize with status 500/],
    ['that does not speak MCP', 200, 'text/html', '<html>', /not an MCP answer/],
    [
      'that refuses',
      200,
      'application/json',
      '{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"not you"}}',
      /refused initialize: not you/,
    ],
    [
      'that is stateless',
      200,
      'application/json',
      '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}',
      /^not session: none: it is stateless/,
    ],
  ])('%s', async (_, status, type, body, sentence) => {
    const checks = await found(
      await served((req, res) => {
        req.resume()
        res.writeHead(status, { 'content-type': type }).end(body)
      }),
      1,
    )
    expect(checks.at(-1)).toMatch(sentence)
  })

  it('that is not there', async () => {
    expect(await found(['--json', '--upstream', 'http://localhost:1/mcp'], 1)).toEqual([
      expect.stringMatching(/^not answer: .*ECONNREFUSED/),
    ])
  })

  it('for people: marks, a verdict, and nothing else', async () => {
    const { stdout, code } = await run(['serve', '--check', '--upstream', 'http://u:secret@localhost:1/mcp'])
    expect(stdout).toMatch(
      /^server {2}http:\/\/u:\*\*\*@localhost:1\/mcp\n✗ answer: .*\nIt cannot be wrapped as it is\.\n$/,
    )
    expect(code).toBe(1)
  })
})
