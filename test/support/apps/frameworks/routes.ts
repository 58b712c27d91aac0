/** Every app also serves `GET /hello` and, streamed in two parts, `GET /parts`: routes that are none of ours. */
export const hello = 'hello from the app'
export const parts = ['first ', 'second']
