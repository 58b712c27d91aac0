import type { Random } from '../simulator/random.ts'
import { type Mutation, type Plan, setHeader } from './plan.ts'

type Message = Record<string, unknown>

/** Everything that somebody can ask of a session, or without one. */
export const OPERATIONS: readonly Mutation[] = [
  ...twice(request('ping')),
  request('tools/list'),
  call('counter'),
  call('session_id'),
  call('subscriptions'),
  // Leaves its mark in the journal of the app: what was done, and not only what was answered.
  ...twice(effect),
  ...twice(effect),
  request('resources/subscribe', { uri: 'test://greeting' }),
  request('logging/setLevel', { level: 'error' }),
  request('tasks/list'),
  request('tasks/get', { taskId: '{alice.main.running}' }),
  request('no/such/method'),
  notification('notifications/roots/list_changed'),
  notification('notifications/initialized'),
  ...twice(cancel),
  ...twice(answer),
  progress,
  initialize,
  batch,
  ...twice(listen),
  ...twice(resume),
  ...twice(end),
]

function twice(operation: Mutation): Mutation[] {
  return [operation, operation]
}

function say(plan: Plan, message: Message | Message[]): void {
  plan.body = JSON.stringify(message)
}

export function call(name: string, args: Message = {}): Mutation {
  return request('tools/call', { name, arguments: args })
}

function request(method: string, params: Message = {}): Mutation {
  return (plan) => say(plan, { jsonrpc: '2.0', id: plan.number + 1000, method, params })
}

function notification(method: string, params: Message = {}): Mutation {
  return (plan) => say(plan, { jsonrpc: '2.0', method, params })
}

export function effect(plan: Plan, random: Random): void {
  call('slow', { tag: `did-${plan.number}`, steps: 0 })(plan, random)
}

function whose(random: Random): string {
  return random.chance(0.8) ? 'alice.main' : 'bob.main'
}

function cancel(plan: Plan, random: Random): void {
  const requestId = `{${whose(random)}.running}`
  say(plan, { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } })
  // Ids are numbers here, and names stand in quotes.
  plan.body = plan.body!.replace(`"${requestId}"`, requestId)
}

function answer(plan: Plan, random: Random): void {
  const id = `{${whose(random)}.question}`
  const result = { model: 'evil', role: 'assistant', content: { type: 'text', text: 'evil' } }
  say(plan, { jsonrpc: '2.0', id, result })
  plan.body = plan.body!.replace(`"${id}"`, id)
}

function progress(plan: Plan, random: Random): void {
  const progressToken = `{${whose(random)}.running}`
  say(plan, { jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken, progress: 1 } })
}

export function initialize(plan: Plan): void {
  const clientInfo = { name: 'fuzz', version: '1' }
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
  say(plan, { jsonrpc: '2.0', id: plan.number + 1000, method: 'initialize', params })
}

function batch(plan: Plan, random: Random): void {
  const messages: Message[] = []
  for (let i = random.between(0, 3); i >= 0; i -= 1) {
    const one: Plan = { ...plan, number: plan.number * 10 + i }
    random.pick([request('ping'), effect, cancel, answer, call('counter')])(one, random)
    messages.push(one.body as unknown as Message)
  }
  plan.body = `[${messages.join(',')}]`
  if (random.chance(0.7)) setHeader(plan, 'Mcp-Protocol-Version', '2025-03-26')
}

function listen(plan: Plan): void {
  plan.method = 'GET'
  setHeader(plan, 'Accept', 'text/event-stream')
}

function resume(plan: Plan, random: Random): void {
  listen(plan)
  setHeader(plan, 'Last-Event-ID', `{${whose(random)}.${random.pick(['event', 'standalone'])}}`)
}

function end(plan: Plan): void {
  plan.method = 'DELETE'
}
