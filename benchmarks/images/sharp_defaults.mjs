// Some widths in three formats with sharp at its defaults: its processor time in seconds, as JSON on stdout.
// Runs as `node sharp_defaults.mjs SOURCE FOLDER WIDTH…` beside node_modules. The start of the interpreter does not count.
import sharp from "sharp";

const [source, folder, ...widths] = process.argv.slice(2);
const begun = process.cpuUsage();
for (const width of widths.map(Number)) {
  for (const format of ["jpeg", "webp", "avif"]) {
    await sharp(source).autoOrient().resize(width).toFormat(format).toFile(`${folder}/${width}.${format}`);
  }
}
const { user, system } = process.cpuUsage(begun);
console.log(JSON.stringify({ cpu_s: (user + system) / 1e6 }));
