// Media with OpenAI's SDK. MODEL is a text model, PAINTER, VOICE, EAR and FILM are those of media.
import { createHash } from 'node:crypto'
import { createReadStream, writeFileSync } from 'node:fs'
import OpenAI, { toFile, toStreamingFile } from 'openai'
import { GATEWAY, KEY, MODEL, tell } from './scene.mjs'

const { PAINTER, VOICE, EAR, FILM } = process.env
const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0 })

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex')
// Width and height of a PNG.
const size = (base64) => {
  const bytes = Buffer.from(base64, 'base64')
  return [bytes.toString('latin1', 1, 4), bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
}
const all = async (stream) => {
  const found = []
  for await (const each of stream) found.push(each)
  return found
}
// Every byte there is, in pieces of no even size.
const BYTES = Buffer.from(Array.from({ length: 70000 }, (_, n) => (n * 7 + (n >> 8)) % 256))
async function* pieces() {
  for (let at = 0; at < BYTES.length; at += 9999) yield BYTES.subarray(at, at + 9999)
}
writeFileSync('bytes.bin', BYTES)

const draw = { model: PAINTER, prompt: 'A gate', size: '64x48' }
const picture = async () => {
  const { data } = await client.images.generate(draw)
  return Buffer.from(data[0].b64_json, 'base64')
}
const say = (format) =>
  client.audio.speech.create({
    model: VOICE,
    voice: 'alloy',
    input: 'The gate opens. The water runs.',
    response_format: format,
  })
const spoken = async () => Buffer.from(await (await say('wav')).arrayBuffer())
const hear = async (options) =>
  client.audio.transcriptions.create({
    model: EAR,
    file: await toFile(await spoken(), 'said.wav'),
    ...options,
  })

await tell({
  images: async () => {
    const { data } = await client.images.generate({ ...draw, n: 2 })
    return data.map(({ b64_json }) => size(b64_json))
  },
  imageStream: async () => {
    const events = await all(
      await client.images.generate({ ...draw, stream: true, partial_images: 1 }),
    )
    return events.map(({ type, b64_json }) => [type, ...size(b64_json)])
  },
  edits: async () => {
    const image = await picture()
    const file = (name) => toFile(image, name, { type: 'image/png' })
    const edit = async (images, more) => {
      const { data } = await client.images.edit({ ...draw, image: images, ...more })
      return data[0].revised_prompt
    }
    return {
      digest: digest(image),
      one: await edit(await file('a.png')),
      two: await edit([await file('a.png'), await file('b.png')], { mask: await file('m.png') }),
      streamed: (
        await all(await client.images.edit({ ...draw, image: await file('a.png'), stream: true }))
      ).map(({ type }) => type),
    }
  },
  speech: async () => {
    const found = {}
    for (const format of ['mp3', 'opus', 'aac', 'flac', 'wav', 'pcm']) {
      const response = await say(format)
      const bytes = Buffer.from(await response.arrayBuffer())
      found[format] = [response.headers.get('content-type'), bytes.toString('latin1', 0, 4)]
    }
    return found
  },
  transcripts: async () => ({
    json: (await hear({})).text,
    text: await hear({ response_format: 'text' }),
    srt: await hear({ response_format: 'srt' }),
    verbose: (await hear({ response_format: 'verbose_json' })).segments.map(({ text }) => text),
    streamed: (await all(await hear({ stream: true }))).at(-1).text,
    fromStream: (
      await hear({
        file: toStreamingFile(
          (async function* () {
            yield await spoken()
          })(),
          'audio.wav',
        ),
      })
    ).text,
  }),
  files: async () => {
    const made = [
      await client.files.create({ purpose: 'user_data', file: createReadStream('bytes.bin') }),
      await client.files.create({
        purpose: 'user_data',
        file: await toFile(BYTES, 'naïve café.bin'),
      }),
      await client.files.create({
        purpose: 'user_data',
        file: toStreamingFile(pieces(), 'streamed.bin'),
      }),
    ]
    const [first, ...others] = made
    const content = Buffer.from(await (await client.files.content(made[2].id)).arrayBuffer())
    const ready = await client.files.waitForProcessing(first.id)
    const listed = await all(await client.files.list())
    const deleted = await client.files.delete(first.id)
    const gone = await client.files.retrieve(first.id).catch((error) => error.status)
    return {
      names: made.map(({ filename }) => filename),
      sizes: made.map(({ bytes }) => bytes),
      same: digest(content) === digest(BYTES),
      status: ready.status,
      listed: made.every(({ id }) => listed.some((file) => file.id === id)),
      deleted: deleted.deleted,
      gone,
    }
  },
  upload: async () => {
    const upload = await client.uploads.create({
      bytes: BYTES.length,
      filename: 'parts.bin',
      mime_type: 'application/octet-stream',
      purpose: 'user_data',
    })
    const part = async (from, to) =>
      (await client.uploads.parts.create(upload.id, { data: await toFile(BYTES.subarray(from, to)) }))
        .id
    // In another order than they are put together.
    const last = await part(40000)
    const first = await part(0, 40000)
    const { status, file } = await client.uploads.complete(upload.id, { part_ids: [first, last] })
    const content = Buffer.from(await (await client.files.content(file.id)).arrayBuffer())
    return { status, bytes: file.bytes, same: digest(content) === digest(BYTES) }
  },
  fileInChat: async () => {
    const image = await picture()
    const file = await client.files.create({
      purpose: 'vision',
      file: await toFile(image, 'gate.png', { type: 'image/png' }),
    })
    const { output_text } = await client.responses.create({
      model: MODEL,
      input: [
        {
          role: 'user',
          content: [
            { type: 'input_text', text: 'What is it? [[sim see]]' },
            { type: 'input_image', file_id: file.id, detail: 'auto' },
          ],
        },
      ],
    })
    return { digest: digest(image), output_text }
  },
  video: async () => {
    let video = await client.videos.create({ model: FILM, prompt: 'A wheel', seconds: '4' })
    const begun = video.status
    for (let n = 0; n < 600 && ['queued', 'in_progress'].includes(video.status); n++) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      video = await client.videos.retrieve(video.id)
    }
    const content = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer())
    const listed = await all(await client.videos.list())
    return {
      begun,
      status: video.status,
      seconds: video.seconds,
      magic: content.toString('latin1', 4, 8),
      listed: listed.some(({ id }) => id === video.id),
      deleted: (await client.videos.delete(video.id)).deleted,
    }
  },
})
