import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Next } from '../app/node-app.ts'
import { PersistError } from '../errors.ts'
import type { ParsedRequest } from './serve-node.ts'

/** What a router calls the handler with, in the one of two forms that fits. */
export type Call =
  | { readonly req: ParsedRequest; readonly res: ServerResponse; readonly next?: Next }
  | { readonly request: Request }

/** Takes a call apart: Node's and Connect's `(req, res, next)`, Fastify's `(request, reply)`, Koa's and Hono's context. */
export function callOf(first: object, second?: unknown, third?: unknown): Call {
  if (second !== null && typeof second === 'object') {
    if ('writeHead' in second && 'method' in first) {
      const next = typeof third === 'function' ? { next: third as () => void } : {}
      return { req: first as ParsedRequest, res: second as ServerResponse, ...next }
    }
    if ('hijack' in second && 'raw' in first) return fastify(first as FastifyRequest, second as FastifyReply)
  }
  if ('req' in first && 'res' in first && 'respond' in first) return koa(first as KoaContext)
  if ('req' in first && 'raw' in (first.req as object))
    return { request: (first.req as { raw: Request }).raw }
  if ('req' in first && 'res' in first && 'request' in first) return koa(first as KoaContext)
  throw new PersistError(
    'INVALID_ARGUMENT',
    'The handler was called with neither (req, res) nor the context of Fastify, Koa or Hono; use handler.fetch(request) for anything else.',
  )
}

interface FastifyRequest {
  readonly raw: IncomingMessage
  readonly body?: unknown
  readonly auth?: unknown
}

interface FastifyReply {
  readonly raw: ServerResponse
  hijack(): void
  getHeaders(): Record<string, number | string | string[] | undefined>
}

function fastify({ raw, body, auth }: FastifyRequest, reply: FastifyReply): Call {
  // What hooks and plugins have set (CORS!) waits in the reply, which is not going to be sent.
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) reply.raw.setHeader(name, value)
  }
  reply.hijack()
  return { req: Object.assign(raw, { body, auth: auth ?? (raw as ParsedRequest).auth }), res: reply.raw }
}

interface KoaContext {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly request: { readonly body?: unknown }
  respond: boolean
}

function koa(context: KoaContext): Call {
  context.respond = false
  return { req: Object.assign(context.req, { body: context.request.body }), res: context.res }
}
