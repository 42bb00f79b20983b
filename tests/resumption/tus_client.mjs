// Uploads a file with tus-js-client and prints what came of it as JSON. Its argument: what to do, as JSON.
import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import * as tus from 'tus-js-client'

const MODES = {
  plain: {},
  chunked: { chunkSize: 500_000 },
  creation: { uploadDataDuringCreation: true },
  'creation-chunked': { uploadDataDuringCreation: true, chunkSize: 500_000 },
  parallel: { parallelUploads: 3 },
  deferred: { uploadLengthDeferred: true, chunkSize: 500_000 },
  override: { overridePatchMethod: true },
  'ietf-draft-03': { protocol: 'ietf-draft-03', chunkSize: 1 << 20 },
  'ietf-draft-05': { protocol: 'ietf-draft-05', chunkSize: 1 << 20 },
  'ietf-draft-05-creation': { protocol: 'ietf-draft-05', uploadDataDuringCreation: true },
}
const { endpoint, token, mode, file, abortAt } = JSON.parse(process.argv[2])
const content = await readFile(file)

function* pieces() {
  for (let start = 0; start < content.length; start += 100_000) yield content.subarray(start, start + 100_000)
}

function open(options) {
  return new Promise((resolve, reject) => {
    // A stream cannot be read again, so that a client with one retries from what it holds.
    const source = MODES[mode].uploadLengthDeferred ? Readable.from(pieces()) : content
    const upload = new tus.Upload(source, {
      endpoint,
      headers: { Authorization: `Bearer ${token}` },
      metadata: { filename: 'größe.bin', filetype: 'application/octet-stream', empty: '' },
      retryDelays: [0, 100, 300, 1000, 3000],
      ...MODES[mode],
      ...options,
      onError: reject,
      onSuccess: (payload) => resolve({ url: upload.url, place: payload.lastResponse.getHeader('Content-Location') ?? null }),
      onProgress: (sent) => {
        if (!options.uploadUrl && abortAt && sent >= abortAt) upload.abort().then(() => resolve({ aborted: upload.url }))
      },
    })
    upload.start()
  })
}

let result = await open({})
if (result.aborted) result = await open({ uploadUrl: result.aborted }) // as another visit of the same page would
console.log(JSON.stringify(result))
