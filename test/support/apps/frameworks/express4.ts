import express4 from 'express4'
import type { SdkLine } from '../sdk-lines.ts'
import type { AppOptions } from '../sessions.ts'
import { expressApp } from './express.ts'

export const express4App = (sdk: SdkLine, options: AppOptions) => expressApp(sdk, options, express4)
