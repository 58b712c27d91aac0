import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Identity {
  readonly cert: Buffer
  readonly key: Buffer
}

/** An authority of its own, with a certificate of 127.0.0.1 and one of a client, made by openssl for a day. */
export function makeIdentities(): { ca: Buffer; server: Identity; client: Identity } {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-mtls-'))
  const file = (name: string) => join(folder, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' })
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const identity = (name: string, extra: string[]): Identity => {
    const signed = ['-CA', file('ca.pem'), '-CAkey', file('ca.key')]
    const out = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)]
    openssl('req', '-x509', ...ec, '-days', '1', '-subj', `/CN=${name}`, ...signed, ...extra, ...out)
    return { cert: readFileSync(file(`${name}.pem`)), key: readFileSync(file(`${name}.key`)) }
  }
  try {
    const out = ['-keyout', file('ca.key'), '-out', file('ca.pem')]
    openssl('req', '-x509', ...ec, '-days', '1', '-subj', '/CN=test authority', ...out)
    const server = identity('server', ['-addext', 'subjectAltName=IP:127.0.0.1'])
    return { ca: readFileSync(file('ca.pem')), server, client: identity('alice', []) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
