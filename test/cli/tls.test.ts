import { chmodSync, writeFileSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Certificate, makeCertificate } from '../support/services/certificate.ts'
import { freePort } from '../support/services/free-port.ts'
import { type PostgresService, startPostgres } from '../support/services/postgres.ts'
import { type RedisService, startRedis } from '../support/services/redis.ts'
import { needsBuild, run } from './support.ts'

needsBuild()

const PASSWORD = 'right-pass'
const WRONG = 'wrong-pass'

let certificate: Certificate
beforeAll(() => {
  certificate = makeCertificate()
})
afterAll(() => certificate.remove())

/** All that it says to somebody who trusts the certificate's authority, or to somebody who does not. */
async function doctor(url: string, { trusting = true } = {}): Promise<{ code: number | null; text: string }> {
  const env: Record<string, string> = trusting ? { NODE_EXTRA_CA_CERTS: certificate.cert } : {}
  const { code, stdout, stderr } = await run(['doctor', '--url', url], { env })
  const text = stdout + stderr
  expect(text).not.toContain(PASSWORD)
  expect(text).not.toContain(WRONG)
  return { code, text }
}

describe('Redis with TLS', () => {
  let server: RedisService
  let port: number
  beforeAll(async () => {
    port = await freePort()
    const files = ['--tls-cert-file', certificate.cert, '--tls-key-file', certificate.key]
    const tls = ['--tls-port', `${port}`, ...files, '--tls-auth-clients', 'no']
    server = await startRedis({ config: [...tls, '--requirepass', PASSWORD] })
  })
  afterAll(() => server.stop())
  const url = (password = PASSWORD, scheme = 'rediss') =>
    `${scheme}://:${password}@127.0.0.1:${port}?timeout=2000`

  test('is reached by rediss:', async () => {
    expect(await doctor(url())).toMatchObject({ code: 0 })
  })

  test('with a certificate that nobody vouches for is not: the sentence says why', async () => {
    const { code, text } = await doctor(url(), { trusting: false })
    expect([code, text]).toEqual([1, expect.stringMatching(/self.signed certificate/i)])
  })

  test('refuses a wrong password', async () => {
    const { code, text } = await doctor(url(WRONG))
    expect([code, text]).toEqual([1, expect.stringMatching(/WRONGPASS/)])
  })

  test('is not reached by redis:', async () => {
    expect(await doctor(url(PASSWORD, 'redis'))).toMatchObject({ code: 1 })
  })
})

describe('PostgreSQL with TLS', () => {
  let server: PostgresService
  beforeAll(async () => {
    const hba = certificate.cert.replace('cert.pem', 'pg_hba.conf')
    const lines = ['host all postgres 127.0.0.1/32 trust', 'hostssl all app 127.0.0.1/32 scram-sha-256']
    writeFileSync(hba, `${lines.join('\n')}\n`)
    chmodSync(hba, 0o644)
    const tls = { ssl: 'on', ssl_cert_file: certificate.cert, ssl_key_file: certificate.key }
    server = await startPostgres({ own: true, settings: { ...tls, hba_file: hba } })
    const client = new pg.Client(server.url)
    await client.connect()
    await client.query(
      `CREATE ROLE app LOGIN PASSWORD '${PASSWORD}'; GRANT CREATE ON DATABASE postgres TO app`,
    )
    await client.end()
  })
  afterAll(() => server.stop())
  const url = (sslmode: string, password = PASSWORD) =>
    `postgres://app:${password}@127.0.0.1:${server.port}/postgres?timeout=2000&sslmode=${sslmode}`

  test.each(['require', 'verify-full'])('is reached with sslmode=%s', async (sslmode) => {
    const env = { NODE_EXTRA_CA_CERTS: certificate.cert }
    expect(await run(['migrate', '--url', url(sslmode)], { env })).toMatchObject({ code: 0 })
    expect(await doctor(url(sslmode))).toMatchObject({ code: 0 })
  })

  test('with a certificate that nobody vouches for is not: the sentence says why', async () => {
    const { code, text } = await doctor(url('verify-full'), { trusting: false })
    expect([code, text]).toEqual([1, expect.stringMatching(/self.signed certificate/i)])
  })

  test('refuses a wrong password', async () => {
    const { code, text } = await doctor(url('require', WRONG))
    expect([code, text]).toEqual([1, expect.stringMatching(/password authentication failed/)])
  })

  test('is not reached without', async () => {
    const { code, text } = await doctor(url('disable'))
    expect([code, text]).toEqual([1, expect.stringMatching(/no encryption/)])
  })
})
