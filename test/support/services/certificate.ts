import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { unprivileged } from './postgres.ts'

export interface Certificate {
  /** Its own authority. */
  readonly cert: string
  readonly key: string
  remove(): void
}

/**
 * Made by openssl for a day, in a temporary folder; readable for the account that PostgreSQL runs as. Of 127.0.0.1, unless
 * it is of somebody else.
 */
export function makeCertificate(name = 'IP:127.0.0.1'): Certificate {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-tls-'))
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']
  const names = ['-subj', '/CN=127.0.0.1', '-addext', `subjectAltName=${name}`]
  execFileSync('openssl', ['req', ...kind, ...names, '-keyout', key, '-out', cert], { stdio: 'pipe' })
  const { uid, gid } = unprivileged()
  if (uid !== undefined) for (const path of [folder, cert, key]) chownSync(path, uid, gid!)
  chmodSync(key, 0o600)
  return { cert, key, remove: () => rmSync(folder, { recursive: true, force: true }) }
}
