/**
 * What a WAV file holds, as 16-bit samples of one channel: docs/contract.md, "Sound to picture", by the rules of the Python code
 * (`sfumato.core.wav_file`) and of the page. Everything but 8 and 16-bit PCM is refused.
 *
 *     val recording = Recording.ofWav(file.readBytes())
 */
package dev.sfumato.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Sound from a file or from `AudioRecord`: [rate] samples a second, and [samples] in -32,768..32,767, at least one. */
public class Recording(public val rate: Int, public val samples: IntArray) {
    init {
        if (rate !in RATES) throw SfumatoException("the recording has $rate samples a second: one of ${RATES.joinToString()} is read")
        if (samples.isEmpty()) throw SfumatoException("the recording is empty")
        if (samples.size > LONGEST_SECONDS * rate) throw SfumatoException("the recording is longer than $LONGEST_SECONDS seconds: cut it")
    }

    public companion object {
        /** Samples a second that are read. */
        public val RATES: Set<Int> = setOf(8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)

        /** Longest recording, in seconds. */
        public const val LONGEST_SECONDS: Int = 16
        private const val MOST_BYTES = 16_000_000
        private const val MOST_CHANNELS = 8
        private const val PCM = 1
        private const val EXTENSIBLE = 0xFFFE
        private val PCM_GUID = "0100000000001000800000aa00389b71".hexToByteArray()

        /** Sixteen-bit samples, as `AudioRecord` gives them in `ENCODING_PCM_16BIT`, of one channel. */
        public fun ofPcm16(rate: Int, samples: ShortArray): Recording = Recording(rate, IntArray(samples.size) { samples[it].toInt() })

        /** Read a WAV file. */
        public fun ofWav(content: ByteArray): Recording {
            if (content.size > MOST_BYTES) throw SfumatoException("the recording has more than $MOST_BYTES bytes: cut it")
            val file = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN)
            if (content.size < 12 || name(file, 0) != "RIFF" || name(file, 8) != "WAVE") throw SfumatoException("the file is no WAV file")
            var form: ByteBuffer? = null
            var at = 12L
            while (at + 8 <= content.size) {
                val (kind, size) = name(file, at.toInt()) to file.getInt(at.toInt() + 4).toUInt().toLong()
                if (at + 8 + size > content.size) damaged("the file is cut")
                // A copy: `duplicate` and `slice` of a ByteBuffer are younger than the oldest Android here.
                val body = ByteBuffer.wrap(content.copyOfRange(at.toInt() + 8, (at + 8 + size).toInt())).order(ByteOrder.LITTLE_ENDIAN)
                if (kind == "fmt ") {
                    if (form != null) damaged("two headers")
                    form = body
                } else if (kind == "data") {
                    return samples(form ?: damaged("no header before the samples"), body)
                }
                at += 8 + size + size % 2 // a chunk of odd length is followed by one byte
            }
            damaged("no samples")
        }

        private fun samples(form: ByteBuffer, body: ByteBuffer): Recording {
            if (form.remaining() < 16) damaged("its header is too short")
            val (kind, channels, frame, bits) = listOf(0, 2, 12, 14).map { form.getShort(it).toInt() and 0xFFFF }
            val (rate, bytesASecond) = listOf(4, 8).map { form.getInt(it).toUInt().toLong() }
            val extended = kind == EXTENSIBLE && form.remaining() >= 40 && PCM_GUID.indices.all { form.get(24 + it) == PCM_GUID[it] }
            if ((kind != PCM && !extended) || (bits != 8 && bits != 16)) {
                throw SfumatoException("the WAV file has form $kind with $bits bits a sample: save it as PCM of 8 or 16 bits")
            }
            if (channels !in 1..MOST_CHANNELS) throw SfumatoException("the recording has $channels channels: 1 to $MOST_CHANNELS are read")
            if (rate !in RATES.map(Int::toLong)) {
                throw SfumatoException("the recording has $rate samples a second: save it with one of ${RATES.joinToString()}")
            }
            if (frame != channels * bits / 8 || bytesASecond != rate * frame || body.remaining() % frame != 0) damaged("its header contradicts itself")
            val length = body.remaining() / frame
            if (length == 0) damaged("no samples")
            return Recording(rate.toInt(), IntArray(length) { i ->
                val sum = (0 until channels).sumOf { channel ->
                    if (bits == 8) 256 * (body.get(i * frame + channel).unsigned - 128) else body.getShort(i * frame + 2 * channel).toInt()
                }
                Math.floorDiv(2 * sum + channels, 2 * channels)
            })
        }

        private fun name(file: ByteBuffer, at: Int) = String(ByteArray(4) { file.get(at + it) }, Charsets.ISO_8859_1)

        private fun damaged(why: String): Nothing = throw SfumatoException("the WAV file is damaged: $why")
    }
}
