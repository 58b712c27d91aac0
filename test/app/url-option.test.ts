import { expect, test } from 'vitest'
import { resolveApp } from '../../src/app/resolve-app.ts'

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
