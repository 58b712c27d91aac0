import express from 'express'
import type { SdkLine } from '../sdk-lines.ts'
import type { AppOptions } from '../sessions.ts'
import { expressApp } from './express.ts'

export const express5App = (sdk: SdkLine, options: AppOptions) => expressApp(sdk, options, express)
