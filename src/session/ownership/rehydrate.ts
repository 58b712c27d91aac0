import { type App, type AppRequest, type AppResponse, header } from '../../app/app.ts'
import type { Settings } from '../../options.ts'
import { Stop, type StopSignal } from '../../stop.ts'
import type { EventLog, OpenStream, SessionRecord, SessionState } from '../../store/port.ts'
import { AppSilent, askApp } from '../live/ask-app.ts'
import { Binding, NotTheirs } from '../live/binding.ts'
import type { LiveSession } from '../live/live-session.ts'
import { LocalApp, ownPost, patienceOf, readMessages } from '../live/local-app.ts'
import { stateRequests } from '../live/session-state.ts'
import { type Answer, relayWhole } from '../protocol/answer.ts'
import { interrupted } from '../protocol/interrupted.ts'
import { isResponse } from '../protocol/json-rpc.ts'
import type { Principals } from '../protocol/principal.ts'
import type { Farewells } from './farewells.ts'
import { findLostCalls, isRepeatable, repeatableTools } from './lost-calls.ts'

/** Requests of a restored state that are under way at the same time: there may be a thousand of them, and little time. */
const TOGETHER = 16

/** The app would not open a session for this caller: its answer is to be relayed. */
export class Refused extends Error {
  readonly answer: Answer

  constructor(answer: Answer) {
    super(`The app refused with status ${answer.status}.`)
    this.answer = answer
  }
}

/** A call that has taken its process with it as often as this would take the next one too. */
const MAX_RUNS = 2

/** Who needs a session that has to be brought back to life, and until when. */
export interface Rehydrating {
  readonly app: App
  readonly settings: Settings
  readonly caller: AppRequest
  readonly principal: Principals
  readonly signal: StopSignal
  readonly farewells: Farewells
}

/** Runs `ask`, which gives up when it is told that it takes too long. */
export async function patiently<T>(settings: Settings, ask: (signal: StopSignal) => Promise<T>): Promise<T> {
  const stop = new Stop()
  const timer = setTimeout(() => stop.stop(), patienceOf(settings))
  timer.unref()
  try {
    return await ask(stop)
  } finally {
    clearTimeout(timer)
  }
}

/**
 * A new session of the app that is told what its predecessor was told, in the name of the caller who needs it now, so
 * that nobody's credentials have to be kept. Rejects with `Refused`, `NotTheirs` or `AppSilent`.
 */
export async function openLocal(record: SessionRecord, asked: Rehydrating): Promise<LocalApp> {
  const { app, settings, principal, signal, farewells } = asked
  const caller = inRevision(asked.caller, record.state.protocolVersion)
  const patience = patienceOf(settings)
  const initialize = ownPost(caller, JSON.parse(record.state.initialize), {}, record.id)
  const binding = new Binding(settings, record)
  const localOf = (sessionId: string) =>
    new LocalApp({ app, settings, sessionId, publicId: record.id, caller, binding })
  const late = (response: AppResponse) => {
    response.cancel()
    const id = header(response.headers, 'mcp-session-id')
    if (response.status < 300 && id !== undefined) farewells.sayLater(localOf(id))
  }
  const response = await askApp(app, initialize, { patience, signal, late })
  const sessionId = header(response.headers, 'mcp-session-id')
  if (response.status >= 300 || sessionId === undefined)
    throw new Refused(await relayWhole(response, record.id))
  const local = localOf(sessionId)
  try {
    const { authInfo } = response
    const answer = (await readMessages(response, patience, signal)).find(isResponse)
    if (!answer) throw new AppSilent()
    if (answer.error)
      throw new Error(`The app answered the stored initialize request with ${answer.error.message}.`)
    if (!binding.isTheirs(authInfo)) throw new NotTheirs()
    await binding.accepted(caller, principal, authInfo)
    return local
  } catch (error) {
    void farewells.say(local)
    throw error
  }
}

/**
 * Of the session, and not what this one request says: it may be refused for that, and must not take what we ask in its
 * caller's name with it.
 */
function inRevision(caller: AppRequest, version: string): AppRequest {
  return { ...caller, headers: { ...caller.headers, 'mcp-protocol-version': version } }
}

/**
 * Brings a fresh instance to where its predecessor was. The standalone stream is open before the client's
 * `notifications/initialized` is repeated, so that what the app sends then is not lost. The answers to what is said
 * here are read here; nothing of it goes into the log.
 */
export async function restore(live: LiveSession, state: SessionState, signal: StopSignal): Promise<void> {
  await live.openTap()
  await live.tellInitialized(signal)
  const requests = stateRequests(state)
  for (let i = 0; i < requests.length; i += TOGETHER) {
    const some = requests.slice(i, i + TOGETHER)
    await Promise.all(some.map(({ method, params }) => live.local.ask(method, params, signal)))
  }
  await live.saveClaimed()
}

/**
 * Runs again what may be run again, and answers the rest with an error: no client waits for ever. What is run again takes
 * the time that it takes, and the session does not wait for it.
 */
export async function settleLostCalls(
  live: LiveSession,
  open: readonly OpenStream[],
  log: EventLog,
  signal: StopSignal,
): Promise<void> {
  const lost = await findLostCalls(log, live.id, open)
  if (lost.length === 0) return
  const callsTools = lost.some(({ requests }) => requests.some(({ method }) => method === 'tools/call'))
  const tools = callsTools ? await repeatableTools(live.local, signal) : new Set<string>()
  if (signal.stopped) throw new AppSilent()
  for (const { streamId, requests, parsed, runs } of lost) {
    const again =
      runs < MAX_RUNS && requests.length > 0 && requests.every((request) => isRepeatable(request, tools))
    if (again) {
      const body = requests.length === 1 && !Array.isArray(parsed) ? parsed : requests
      void live.rerun(ownPost(live.local.caller, body as object), requests, streamId, runs + 1)
    } else {
      await live.finish(streamId, requests.map(interrupted))
    }
  }
}
