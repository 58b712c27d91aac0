import { expect, onTestFinished, test } from 'vitest'
import { readBody } from '../../src/app/app.ts'
import { resolveApp } from '../../src/app/resolve-app.ts'
import { listen } from '../support/net/listen.ts'
import { until } from '../support/wait.ts'

test('a url with a query is refused, for the query would be lost; its key is not repeated', () => {
  const url = 'http://user:secret@localhost:8080/mcp?api_key=hidden'
  expect(() => resolveApp({ url })).toThrow(
    /the url "http:\/\/user:\*\*\*@localhost:8080\/mcp" as its app: it must end with the path/,
  )
})

test('a url of another protocol is refused without its password', () => {
  const url = 'ftp://user:secret@localhost/mcp'
  expect(() => resolveApp({ url })).toThrow(
    /the url "ftp:\/\/user:\*\*\*@localhost\/mcp".*http:\/\/ or https:\/\//,
  )
})

test('a url may name a user and a path', () => {
  const { kind, path } = resolveApp({ url: new URL('http://user:secret@localhost:8080/mcp') })
  expect({ kind, path }).toEqual({ kind: 'url', path: '/mcp' })
})

test('a url that is a function is asked for each request: of a server that is nowhere, and then moves', async () => {
  const answering = (text: string) => listen((_, res) => void res.end(text))
  const [one, other] = await Promise.all([answering('one'), answering('other')])
  onTestFinished(async () => {
    await Promise.all([one.close(), other.close()])
  })
  let url: URL | undefined
  const { app } = resolveApp({ url: () => url })
  onTestFinished(() => app.close())
  const ask = async () =>
    (await readBody(await app.fetch({ method: 'GET', url: '/mcp', headers: {} }))).toString()
  await expect(ask()).rejects.toMatchObject({ name: 'AppAway' })
  await until('it is missed', () => app.presence!.away)
  for (const [at, text] of [
    [one, 'one'],
    [other, 'other'],
  ] as const) {
    url = new URL(at.origin)
    await until('it is found', () => !app.presence!.away)
    expect(await ask()).toBe(text)
  }
})

test('what starts a stdio server is named', () => {
  expect(() => resolveApp({ stdio: { command: '' } })).toThrow(
    /name the program: \{ stdio: \{ command, args \} \}/,
  )
})
