// What a test of Uppy needs in the page: begin(job) starts an upload, result says what became of it.
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'
import XHRUpload from '@uppy/xhr-upload'

function makeFile(name, size) {
  const content = new Uint8Array(size)
  for (let place = 0; place < size; place += 1) content[place] = (place * 31 + (place >> 8)) % 251
  return new File([content], name, { type: 'application/octet-stream', lastModified: 1_700_000_000_000 })
}

window.result = null
window.begin = ({ kind, endpoint, token, name, size, options, stopAt }) => {
  const uppy = new Uppy({ autoProceed: false })
  const headers = { Authorization: `Bearer ${token}` }
  if (kind === 'tus') uppy.use(Tus, { endpoint, headers, retryDelays: [0, 100, 300, 1000, 3000], ...options })
  else uppy.use(XHRUpload, { endpoint, headers, fieldName: 'file', ...options })
  uppy.on('upload-progress', (_, { bytesUploaded }) => {
    if (stopAt && bytesUploaded >= stopAt) {
      uppy.pauseAll()
      window.result = { stopped: bytesUploaded }
    }
  })
  const file = makeFile(name, size)
  uppy.addFile({ name, type: file.type, data: file, meta: { relativePath: null, note: 'größe' } })
  uppy.upload().then(
    ({ successful, failed }) => {
      window.result = { urls: successful.map((one) => one.uploadURL ?? one.response.body.uploads[0].id), failed: failed.map((one) => one.error) }
    },
    (error) => { window.result = { failed: [String(error)] } },
  )
}
