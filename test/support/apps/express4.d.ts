// Express 4 under another name; what the apps use of it is the same in both majors.
declare module 'express4' {
  export { default } from 'express'
}
