// The AI SDK. PROVIDER: `compatible` and `openai-chat` speak Chat Completions, `openai` Responses,
// `anthropic` Messages.
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, isStepCount, jsonSchema, streamText, tool } from 'ai'
import { ASK, GATEWAY, HELLO, KEY, MODEL, TOOL, result, tell } from './scene.mjs'

globalThis.AI_SDK_LOG_WARNINGS = false

const at = { baseURL: `${GATEWAY}/v1`, apiKey: KEY }
const model = {
  compatible: () => createOpenAICompatible({ ...at, name: 'gateway', includeUsage: true })(MODEL),
  'openai-chat': () => createOpenAI(at).chat(MODEL),
  openai: () => createOpenAI(at)(MODEL),
  anthropic: () => createAnthropic(at)(MODEL),
}[process.env.PROVIDER]()

const hello = { model, prompt: HELLO, maxRetries: 0 }
const ask = {
  model,
  prompt: ASK,
  maxRetries: 0,
  tools: {
    weather: tool({
      description: TOOL.description,
      inputSchema: jsonSchema(TOOL.parameters),
      execute: result,
    }),
  },
  stopWhen: isStepCount(5),
}

const answer = ({ text, finishReason, toolCalls, usage, response }) => ({
  text,
  finish: finishReason,
  calls: toolCalls.map(({ toolName, input }) => [toolName, input]),
  usage: {
    input: usage.inputTokens,
    output: usage.outputTokens,
    cached: usage.inputTokenDetails.cacheReadTokens ?? 0,
  },
  model: response.modelId,
})

// What went by as deltas has to be what the result says.
async function streamed(options) {
  const errors = []
  const result = streamText({ ...options, onError: ({ error }) => errors.push(error) })
  let text = ''
  for await (const delta of result.textStream) text += delta
  if (errors.length) throw errors[0]
  const steps = await result.steps
  const said = steps.map((step) => step.text).join('')
  if (text !== said) throw new Error(`deltas ${text}, steps ${said}`)
  return { steps }
}

const settled = ({ steps }) => {
  if (steps.length !== 2) throw new Error(`${steps.length} steps, not 2`)
  return { called: answer(steps[0]), settled: answer(steps[1]) }
}

await tell({
  plain: async () => answer((await generateText(hello)).steps[0]),
  streamed: async () => answer((await streamed(hello)).steps[0]),
  tools: async () => settled(await generateText(ask)),
  toolsStreamed: async () => settled(await streamed(ask)),
})
