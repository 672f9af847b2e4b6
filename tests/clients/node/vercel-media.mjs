// Media with the AI SDK over its provider for OpenAI, at models whose names it does not know.
import { createOpenAI } from '@ai-sdk/openai'
import { experimental_generateSpeech, experimental_transcribe, generateImage, generateText } from 'ai'
import { GATEWAY, KEY, MODEL, tell } from './scene.mjs'

globalThis.AI_SDK_LOG_WARNINGS = false

const { PAINTER, VOICE, EAR } = process.env
const provider = createOpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY })

const size = (bytes) => {
  const data = Buffer.from(bytes)
  return [data.toString('latin1', 1, 4), data.readUInt32BE(16), data.readUInt32BE(20)]
}
const draw = (more) =>
  generateImage({ model: provider.image(PAINTER), size: '64x48', maxRetries: 0, ...more })
const say = (outputFormat) =>
  experimental_generateSpeech({
    model: provider.speech(VOICE),
    text: 'The gate opens. The water runs.',
    outputFormat,
    maxRetries: 0,
  })
const hear = async (options) => {
  const { audio } = await say('wav')
  const { text, segments, durationInSeconds } = await experimental_transcribe({
    model: provider.transcription(EAR),
    audio: audio.uint8Array,
    maxRetries: 0,
    ...options,
  })
  return { text, segments: segments.map(({ text: said }) => said), seconds: durationInSeconds }
}

await tell({
  images: async () => {
    const { images } = await draw({ prompt: 'A gate [[sim refuse=response_format]]', n: 2 })
    return images.map(({ uint8Array }) => size(uint8Array))
  },
  edit: async () => {
    const { image } = await draw({ prompt: 'A gate' })
    const edited = await draw({ prompt: { text: 'A blue gate', images: [image.uint8Array] } })
    return edited.images.map(({ uint8Array }) => size(uint8Array))
  },
  speech: async () => {
    const { audio } = await say('wav')
    return [audio.mediaType, Buffer.from(audio.uint8Array).toString('latin1', 0, 4)]
  },
  transcript: () => hear({}),
  verbose: () => hear({ providerOptions: { openai: { responseFormat: 'verbose_json' } } }),
  // Derived from what a model says that does not know the wanted format.
  derived: () =>
    hear({
      providerOptions: {
        openai: {
          responseFormat: 'verbose_json',
          prompt: '[[sim refuse=response_format:verbose_json]]',
        },
      },
    }),
  words: () =>
    hear({
      providerOptions: {
        openai: { responseFormat: 'verbose_json', timestampGranularities: ['word'] },
      },
    }),
  imageInText: async () => {
    const { image } = await draw({ prompt: 'A gate' })
    const { text } = await generateText({
      model: provider(MODEL),
      maxRetries: 0,
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What is it? [[sim see]]' },
            { type: 'image', image: image.uint8Array, mediaType: 'image/png' },
          ],
        },
      ],
    })
    return text
  },
})
