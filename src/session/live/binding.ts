import type { AppRequest } from '../../app/app.ts'
import type { Settings } from '../../options.ts'
import type { CredentialDigest, PrincipalSource, SessionRecord, SessionState } from '../../store/port.ts'
import { credentialOf, digestOf, matches } from '../protocol/credential.ts'
import { bestPrincipal, fromAuthInfo, isTheirs, type Principals } from '../protocol/principal.ts'

type Bound = Pick<SessionRecord, 'principal'> & { readonly state: Pick<SessionState, 'principalSource'> }

/** Credentials of the principal that the app has accepted, which need not be asked about again. */
const MAX_CREDENTIALS = 8

/** Thrown when the app accepts somebody, and says that it is not the one whose session it is: like no session at all. */
export class NotTheirs extends Error {}

/** May they have the session, as far as can be told without the app? `ask`: the app knows, by its own middleware. */
export function mayHave({ principal, state }: Bound, seen: Principals): boolean | 'ask' {
  return principal === null ? true : isTheirs(principal, state.principalSource, seen)
}

/**
 * May this caller take the session over, whose owner is gone? Where nobody can tell whose it is, only the credential that
 * was accepted last can: the app's own idea of whose session it was has died with the owner.
 */
export function mayTakeOver(
  { principal, state }: SessionRecord,
  caller: AppRequest,
  settings: Settings,
): boolean {
  if (principal !== null || state.credential === undefined || settings.takeover === 'any') return true
  return matches(state.credential, credentialOf(caller))
}

/** To whom a live session belongs. The record has the same; `onChange` stores it. */
export class Binding {
  readonly #settings: Settings
  #principal: string | null
  #source: PrincipalSource | undefined
  #credential: CredentialDigest | undefined
  /** The credential behind the digest, once we have seen it. */
  #last: string | undefined
  readonly #accepted = new Set<string>()
  onChange: (() => Promise<void>) | undefined

  constructor(settings: Settings, record: Pick<SessionRecord, 'principal' | 'state'> | undefined) {
    this.#settings = settings
    this.#principal = record?.principal ?? null
    this.#source = record?.state.principalSource
    this.#credential = record?.state.credential
  }

  get principal(): string | null {
    return this.#principal
  }

  /** What of it stands in the session's state. */
  get state(): Pick<SessionState, 'principalSource' | 'credential'> {
    return {
      ...(this.#source !== undefined && { principalSource: this.#source }),
      ...(this.#credential && { credential: this.#credential }),
    }
  }

  /** Are there credentials, and nothing that says whose they are? */
  get unseen(): boolean {
    return this.#principal === null && this.#credential !== undefined
  }

  /** Whoever gets here was found to be the session's principal by somebody who verifies, in front of the app. */
  get verifiedInFront(): boolean {
    return this.#principal !== null && this.#source !== 'jwt' && this.#source !== 'app'
  }

  mayHave(seen: Principals): boolean | 'ask' {
    return mayHave({ principal: this.#principal, state: this.state }, seen)
  }

  /** Only the app can tell whose this request is, and has to be asked before the session sees it. */
  mustAsk(request: AppRequest): boolean {
    if (this.#principal === null || this.#source !== 'app') return false
    // The same token names the same user as before. The same cookie may not: somebody else may have logged in.
    return request.headers['authorization'] === undefined || !this.#accepted.has(credentialOf(request)!)
  }

  /** The app accepts somebody; `inApp`: who that is, as its middleware says. */
  isTheirs(inApp: unknown): boolean {
    return this.#principal === null || this.#source !== 'app' || fromAuthInfo(inApp) === this.#principal
  }

  /** The app has accepted this request. The first identity that it accepts is the session's from then on. */
  async accepted(request: AppRequest, seen: Principals, inApp: unknown): Promise<void> {
    if (this.#bind(request, seen, inApp)) await this.onChange?.()
  }

  /** True: the record is to be written anew. */
  #bind(request: AppRequest, seen: Principals, inApp: unknown): boolean {
    const credential = credentialOf(request)
    if (this.#principal === null) {
      const best = bestPrincipal(seen, this.#settings.authorise ? undefined : inApp)
      if (!best) return this.#note(credential)
      this.#principal = best.principal
      this.#source = best.source
      this.#credential = undefined
      this.#remember(credential)
      return true
    }
    this.#remember(credential)
    return false
  }

  #note(credential: string | undefined): boolean {
    if (credential === undefined || credential === this.#last || this.#settings.takeover === 'any')
      return false
    this.#last = credential
    if (this.#credential && matches(this.#credential, credential)) return false
    this.#credential = digestOf(credential)
    return true
  }

  #remember(credential: string | undefined): void {
    if (this.#source !== 'app' || credential === undefined || this.#accepted.has(credential)) return
    if (this.#accepted.size >= MAX_CREDENTIALS) this.#accepted.delete(this.#accepted.values().next().value!)
    this.#accepted.add(credential)
  }
}
