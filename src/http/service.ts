import type { AppRequest } from '../app/app.ts'
import type { Answer } from '../session/protocol/answer.ts'

/** What a face does with one request: what it reads of it, and who answers. */
export interface Service {
  /** Path and query that the app gets. */
  readonly url: string
  /** Left out: nothing. */
  readonly body?: {
    /** Bytes, of what arrives and of what it is when it is inflated. */
    readonly limit: number
    /** For somebody else to decode. */
    readonly encoded?: boolean
  }
  /** The app is not one of Node: to it, a header that stands more than once is one with commas. */
  readonly joinsLines?: boolean
  answer(request: AppRequest): Promise<Answer>
  /** What is to be sent where the request cannot even be read. */
  refuse(answer: Answer, caller: AppRequest): Promise<Answer>
}
