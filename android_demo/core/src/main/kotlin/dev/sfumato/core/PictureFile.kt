/**
 * What a picture file says of itself, read before anything is decoded: kind, size, orientation, and whether it is whole. The same
 * rules as in Python (`sfumato.core.picture_file`) and on the page (`picture_file.js`): docs/contract.md, "Picture to input".
 *
 *     val file = PictureFile.of(content)   // a PictureException says why it is not read
 *     file.orientation
 */
package dev.sfumato.core

import java.util.zip.CRC32

/** Why a picture is not read: its [KIND] is not known, its [SIZE] is over a limit, its [FORM] is left out, or it is [DAMAGED]. */
public enum class Refusal { KIND, SIZE, FORM, DAMAGED }

/** A picture that is not read: [refusal] is the reason's class, the message a sentence for people. */
public class PictureException(public val refusal: Refusal, message: String) : SfumatoException(message)

/**
 * A file's [kind]; [height] and [width] as stored, before any turn, 0 where only a decoder can say; [orientation] of EXIF, 1 where the
 * container has its own.
 */
public class PictureFile internal constructor(
    public val kind: Kind,
    public val height: Int = 0,
    public val width: Int = 0,
    public val orientation: Int = 1,
    internal val png: Png? = null,
) {
    /** The kinds that are read: [JPEG], [PNG], [GIF], [BMP], [WEBP], [AVIF] and [HEIF]. */
    public enum class Kind { JPEG, PNG, GIF, BMP, WEBP, AVIF, HEIF }

    /** By how much a JPEG's sides are divided as it is decoded for a model of [toHeight] x [toWidth]. */
    public fun reduction(toHeight: Int, toWidth: Int): Int = when {
        kind != Kind.JPEG -> 1
        orientation >= 5 -> Picture.reduction(height, width, toWidth, toHeight)
        else -> Picture.reduction(height, width, toHeight, toWidth)
    }

    /** Reads files, and holds the limits that all platforms share. */
    public companion object {
        /** Most bytes of a file. */
        public const val MAX_BYTES: Int = 160_000_000

        /** Most pixels of a JPEG, which is reduced as it is decoded. */
        public const val MAX_PIXELS: Long = 250_000_000L

        /** Most pixels that are decoded, and so of every other kind. */
        public const val MAX_DECODED: Long = 50_000_000L
        private const val MAX_SCANNED = 1_200_000_000L // pixels times scans of a JPEG in several scans
        private const val MAX_SIDE = 32_767

        /** Read the structure of a file's bytes. */
        public fun of(content: ByteArray): PictureFile {
            val kind = kindOf(content)
                ?: throw PictureException(Refusal.KIND, "this is no picture of a kind that is read here (JPEG, PNG, WebP, GIF, BMP, AVIF, HEIC)")
            checkBytes(content.size.toLong())
            return try {
                when (kind) {
                    Kind.JPEG -> jpeg(content)
                    Kind.PNG -> png(content)
                    Kind.GIF -> gif(content)
                    Kind.BMP -> bmp(content)
                    Kind.WEBP -> webp(content)
                    Kind.AVIF, Kind.HEIF -> avif(content, kind)
                }
            } catch (error: IndexOutOfBoundsException) { // the file ends within a header
                cut()
            }
        }

        /** Refuse a file of [count] bytes that is too large, before it is read. */
        public fun checkBytes(count: Long) {
            if (count > MAX_BYTES) throw PictureException(Refusal.SIZE, "the file has $count bytes, more than the $MAX_BYTES allowed")
        }

        /** Refuse a picture of [height] x [width] pixels that has more than [most], or too long a side. */
        public fun checkSize(height: Long, width: Long, most: Long) {
            // Sides of 32 bits: their product may not fit 63.
            if (height > MAX_PIXELS || width > MAX_PIXELS || height * width > most) {
                throw PictureException(Refusal.SIZE, "the picture has $width x $height pixels, more than the $most allowed")
            }
            if (maxOf(height, width) > MAX_SIDE) {
                throw PictureException(Refusal.SIZE, "the picture has $width x $height pixels, a side of more than the $MAX_SIDE allowed")
            }
        }

        /** Of an EXIF block without its `Exif\0\0`: 1 to 8; 1 where it says none, or not as SHORT. */
        internal fun exifOrientation(block: ByteArray): Int {
            val magic = block.text(0, 4)
            val little = magic == "II*\u0000"
            if ((!little && magic != "MM\u0000*") || block.size < 10) return 1
            val start = block.long(4, little)
            if (start + 2 > block.size) return 1
            val first = start.toInt() + 2
            val end = minOf(first + 12 * block.short(first - 2, little), block.size - 11)
            for (at in first until end step 12) {
                if (block.short(at, little) != 0x0112) continue
                val value = block.short(at + 8, little)
                val short = block.short(at + 2, little) == 3 && block.long(at + 4, little) == 1L
                return if (short && value in 1..8) value else 1
            }
            return 1
        }

        internal fun cut(): Nothing = throw PictureException(Refusal.DAMAGED, "the end of the picture is missing: copy it again")

        internal fun damaged(what: String): Nothing =
            throw PictureException(Refusal.DAMAGED, "the picture is damaged ($what): copy it again")

        private fun form(what: String): Nothing = throw PictureException(Refusal.FORM, what)

        private fun kindOf(content: ByteArray): Kind? {
            fun starts(text: String, at: Int = 0) = content.text(at, text.length) == text
            return when {
                starts("\u00ff\u00d8\u00ff") -> Kind.JPEG
                starts("\u0089PNG\r\n\u001a\n") -> Kind.PNG
                starts("GIF87a") || starts("GIF89a") -> Kind.GIF
                starts("RIFF") && starts("WEBP", 8) -> Kind.WEBP
                starts("BM") -> Kind.BMP
                !starts("ftyp", 4) -> null
                "avif" in brands(content) || "avis" in brands(content) -> Kind.AVIF
                brands(content).first() in setOf("heic", "heix", "hevc", "heim", "heis", "mif1", "msf1") -> Kind.HEIF
                else -> null
            }
        }

        /** Of an ISO file, its own first. */
        private fun brands(content: ByteArray): List<String> {
            val end = minOf(32L, content.size.toLong(), content.long(0)).toInt()
            return listOf(content.text(8, 4)) + (16 until end step 4).map { content.text(it, minOf(4, 32 - it)) }
        }

        // --- JPEG ---

        private val READ_FRAMES = setOf(0xC0, 0xC1, 0xC2)

        private fun jpeg(content: ByteArray): PictureFile {
            var scans = 0
            var ended = false
            var orientation: Int? = null
            var height = 0
            var width = 0
            var at = 2
            while (!ended) {
                // A marker other than a restart: FF 00 is a byte of data, further FF fill.
                while (at + 1 < content.size && !(content[at].unsigned == 0xFF && isMarker(content[at + 1].unsigned))) at++
                if (at + 1 >= content.size) break
                val code = content[at + 1].unsigned
                at += 2
                if (code == 0xD9) ended = true
                if (code == 0x01 || code == 0xD8 || ended) continue
                val length = if (at + 2 <= content.size) content.short(at) else 0
                val (start, end) = at + 2 to minOf(at + length, content.size)
                at += length
                if (code == 0xDA) scans++
                if (code == 0xE1 && orientation == null && scans == 0 && content.text(start, 6) == "Exif\u0000\u0000") {
                    orientation = exifOrientation(content.copyOfRange(minOf(start + 6, end), end))
                }
                if (code !in 0xC0..0xCF || code == 0xC4 || code == 0xC8 || code == 0xCC || width != 0) continue
                height = content.short(start + 1)
                width = content.short(start + 3)
                if (code !in READ_FRAMES || content[start].unsigned != 8) {
                    form("a JPEG of 12 bits, without loss or of arithmetic codes: save it as an ordinary one")
                }
                if (height == 0 || width == 0 || content[start + 5].unsigned !in setOf(1, 3, 4)) damaged("its size is missing")
                checkSize(height.toLong(), width.toLong(), MAX_PIXELS)
            }
            if (scans > 1 && width.toLong() * height * scans > MAX_SCANNED) {
                throw PictureException(Refusal.SIZE, "a JPEG of $width x $height pixels in $scans scans takes too long to decode")
            }
            if (!ended || scans == 0 || width == 0) cut()
            return PictureFile(Kind.JPEG, height, width, orientation ?: 1)
        }

        private fun isMarker(code: Int) = code != 0 && code != 0xFF && code !in 0xD0..0xD7

        // --- PNG ---

        private val DEPTHS = mapOf(0 to setOf(1, 2, 4, 8, 16), 2 to setOf(8, 16), 3 to setOf(1, 2, 4, 8), 4 to setOf(8, 16), 6 to setOf(8, 16))

        private fun png(content: ByteArray): PictureFile {
            var header: Png? = null
            var orientation: Int? = null
            var control: List<Long>? = null // of the first frame, if it stands behind a picture that is not one
            var palette: IntRange? = null
            var clear: IntRange? = null
            var animated = false
            var led = false
            var frames = 0
            var last = ""
            val pixels = mutableListOf<IntRange>()
            val frame = mutableListOf<IntRange>()
            var at = 8
            while (last != "IEND") {
                if (at + 12 > content.size) cut()
                val size = content.long(at)
                val kind = content.text(at + 4, 4)
                if (at + 12 + size > content.size) cut()
                val length = size.toInt()
                val start = at + 8
                val sum = CRC32().apply { update(content, at + 4, length + 4) }.value
                if (sum != content.long(start + length)) damaged("a checksum of $kind is wrong")
                at = start + length + 4
                val range = start until start + length
                val begun = pixels.isNotEmpty()
                if (header == null) {
                    header = pngHeader(content, kind, length, start)
                } else if (kind == "IHDR" || (kind[0].code < 0x60 && kind !in setOf("PLTE", "IDAT", "IEND"))) {
                    damaged("a chunk $kind")
                }
                val colour = header.colour
                when {
                    kind == "PLTE" -> {
                        if (palette != null || begun || length % 3 != 0 || length !in 3..768 || colour == 0 || colour == 4) damaged("its palette")
                        palette = range
                    }
                    kind == "tRNS" -> {
                        val fits = if (colour == 0) length == 2 else colour != 2 || length == 6
                        if (clear != null || begun || !fits || (colour == 3 && palette == null)) damaged("its transparency")
                        clear = range
                    }
                    kind == "eXIf" -> orientation = orientation ?: exifOrientation(content.copyOfRange(start, start + length))
                    (kind == "acTL" && length != 8) || (kind == "fcTL" && length != 26) -> damaged("a chunk $kind")
                    kind == "acTL" && !begun -> animated = content.long(start) > 0
                    kind == "fcTL" -> {
                        if (begun) frames++ else led = true
                        if (frames == 1 && control == null) control = listOf(4, 8, 12, 16).map { content.long(start + it) }
                    }
                    kind == "IDAT" -> {
                        if (begun && last != kind) damaged("its pixels are not together")
                        pixels += range
                    }
                    kind == "fdAT" && frames == 1 -> frame += start + 4 until start + length
                }
                last = kind
            }
            if (header == null || pixels.isEmpty() || (header.colour == 3 && palette == null)) damaged("it has no pixels, or no palette")
            val (height, width) = header.height to header.width
            val shown = if (animated && !led) control else null
            val (across, down, left, top) = shown ?: listOf(width.toLong(), height.toLong(), 0L, 0L)
            if (across == 0L || down == 0L || left + across > width || top + down > height) damaged("its first frame lies outside")
            val png = header.copy(
                height = down.toInt(), width = across.toInt(), left = left.toInt(), top = top.toInt(),
                palette = palette, clear = clear, parts = if (shown != null) frame else pixels,
            )
            return PictureFile(Kind.PNG, height, width, orientation ?: 1, png)
        }

        private fun pngHeader(content: ByteArray, kind: String, length: Int, start: Int): Png {
            if (kind != "IHDR" || length != 13) damaged("its header is missing")
            val (width, height) = content.long(start) to content.long(start + 4)
            val (depth, colour, compression, method, laced) = (8..12).map { content[start + it].unsigned }
            if (width == 0L || height == 0L || depth !in DEPTHS[colour].orEmpty() || compression != 0 || method != 0 || laced > 1) damaged("its header")
            checkSize(height, width, MAX_DECODED)
            return Png(depth, colour, laced == 1, height.toInt(), width.toInt())
        }

        // --- GIF, BMP, WebP, AVIF ---

        private fun gif(content: ByteArray): PictureFile {
            val (width, height) = content.short(6, true) to content.short(8, true)
            val flags = content[10].unsigned
            if (width == 0 || height == 0) damaged("its size is missing")
            checkSize(height.toLong(), width.toLong(), MAX_DECODED)
            fun colours(form: Int) = if (form and 0x80 != 0) 3 shl (form and 7) + 1 else 0
            fun behind(start: Int): Int { // the empty block that ends them
                var at = start
                while (content[at].unsigned != 0) at += 1 + content[at].unsigned
                return at + 1
            }
            var at = 13 + colours(flags)
            while (content[at].unsigned == 0x21) at = behind(at + 2)
            if (content[at].unsigned != 0x2C) damaged("it has no picture")
            val (left, top, across, down) = listOf(1, 3, 5, 7).map { content.short(at + it, true) }
            val form = content[at + 9].unsigned
            if (across == 0 || down == 0 || left + across > width || top + down > height) damaged("its first frame lies outside")
            if (flags or form and 0x80 == 0) damaged("it has no palette")
            at += 10 + colours(form)
            if (content[at].unsigned !in 2..8) damaged("its codes")
            behind(at + 1)
            return PictureFile(Kind.GIF, height, width)
        }

        /** Bits a pixel that are read, without compression and with masks. */
        private val BMP_FORMS = mapOf(0L to setOf(1, 4, 8, 24, 32), 3L to setOf(32))

        private fun bmp(content: ByteArray): PictureFile {
            val (start, header) = content.long(10, true) to content.long(14, true)
            val old = header == 12L
            if (header !in setOf(12L, 40L, 52L, 56L, 64L, 108L, 124L)) damaged("its header")
            val width = if (old) content.short(18, true).toLong() else content.long(18, true).toInt().toLong()
            val height = Math.abs(if (old) content.short(20, true).toLong() else content.long(22, true).toInt().toLong())
            val (planes, depth) = content.short(if (old) 22 else 26, true) to content.short(if (old) 24 else 28, true)
            val form = if (old) 0L else content.long(30, true)
            if (width <= 0 || height == 0L || planes != 1) damaged("its header")
            if (depth !in BMP_FORMS[form].orEmpty()) form("a BMP of $depth bits in form $form: save it as a PNG")
            checkSize(height, width, MAX_DECODED)
            if (start + (width * depth + 31) / 32 * 4 * height > content.size) cut()
            return PictureFile(Kind.BMP, height.toInt(), width.toInt())
        }

        private fun webp(content: ByteArray): PictureFile {
            val end = 8 + content.long(4, true)
            if (end > content.size) cut()
            var height = 0
            var width = 0
            var pictures = 0
            var orientation: Int? = null
            var at = 12
            while (at + 8 <= end) {
                val kind = content.text(at, 4)
                val length = content.long(at + 4, true)
                val first = at == 12
                at += 8
                if (at + length > end) cut()
                if (first && kind == "VP8X" && length >= 10) {
                    width = 1 + (content.long(at + 4, true) and 0xFFFFFF).toInt()
                    height = 1 + (content.long(at + 6, true) shr 8).toInt()
                } else if (first && kind == "VP8 " && length >= 10) {
                    width = content.short(at + 6, true) and 0x3FFF
                    height = content.short(at + 8, true) and 0x3FFF
                } else if (first && kind == "VP8L" && length >= 5) {
                    val bits = content.long(at + 1, true)
                    width = 1 + (bits and 0x3FFF).toInt()
                    height = 1 + (bits shr 14 and 0x3FFF).toInt()
                } else if (kind == "EXIF") {
                    orientation = orientation ?: exifOrientation(content.copyOfRange(at, at + length.toInt()))
                }
                if (kind == "VP8 " || kind == "VP8L" || kind == "ANMF") pictures++
                at += (length + length % 2).toInt()
            }
            if (width == 0 || height == 0 || pictures == 0) damaged("it has no picture")
            checkSize(height.toLong(), width.toLong(), MAX_DECODED)
            return PictureFile(Kind.WEBP, height, width, orientation ?: 1)
        }

        private fun avif(content: ByteArray, kind: Kind): PictureFile {
            var height = 0
            var width = 0
            var plain = "avis" !in brands(content)
            properties(content, 0, content.size.toLong(), listOf("meta", "iprp", "ipco")) { name, start, end ->
                val clear = name == "auxC" && ":alpha" in content.text(start, minOf(64, end - start))
                if (kind == Kind.AVIF && (clear || (name == "av1C" && content[start + 2].unsigned and 0x40 != 0))) plain = false
                if (name == "ispe" && end - start >= 12) {
                    val (across, down) = content.long(start + 4) to content.long(start + 8)
                    checkSize(down, across, MAX_DECODED) // of tiles and thumbnails too: the largest is the picture
                    if (across * down > width.toLong() * height) {
                        width = across.toInt()
                        height = down.toInt()
                    }
                }
            }
            // Decoders differ by up to 20 levels.
            if (!plain) form("an AVIF that moves, is partly clear or has more than 8 bits: save it as a PNG")
            return PictureFile(kind, height, width)
        }

        /** Kind, start and end of the properties of an ISO file's pictures, within the boxes [inside]. */
        private fun properties(content: ByteArray, from: Int, end: Long, inside: List<String>, found: (String, Int, Int) -> Unit) {
            var at = from
            while (at + 8 <= end) {
                val kind = content.text(at + 4, 4)
                var length = content.long(at)
                var start = at + 8
                if (length == 1L) {
                    if (content.long(start) != 0L) cut() // beyond any file
                    length = content.long(start + 4)
                    start += 8
                }
                val stop = if (length == 0L) end else at + length
                if (stop < start || stop > end) cut()
                if (inside.isEmpty()) {
                    found(kind, start, stop.toInt())
                } else if (kind == inside.first()) {
                    properties(content, start + if (kind == "meta") 4 else 0, stop, inside.drop(1), found)
                }
                at = stop.toInt()
            }
        }
    }
}

/** A character a byte; shorter where the bytes end. */
internal fun ByteArray.text(at: Int, count: Int): String =
    String(this, minOf(at, size), maxOf(0, minOf(count, size - at)), Charsets.ISO_8859_1)

/** Two bytes, without sign. */
internal fun ByteArray.short(at: Int, little: Boolean = false): Int =
    if (little) this[at].unsigned or (this[at + 1].unsigned shl 8) else (this[at].unsigned shl 8) or this[at + 1].unsigned

/** Four bytes, without sign. */
internal fun ByteArray.long(at: Int, little: Boolean = false): Long {
    val (first, second) = short(at, little).toLong() to short(at + 2, little).toLong()
    return if (little) first or (second shl 16) else (first shl 16) or second
}
