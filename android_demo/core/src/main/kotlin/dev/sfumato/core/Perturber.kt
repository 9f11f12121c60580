/**
 * What the phone does to one photo or recording: fit, network, keyed noise, draw, encode, each step timed. In answer mode the draw is the code
 * word of the network's decision.
 *
 *     val perturber = Perturber(bundle, network, keys)
 *     val result = perturber.perturb(picture)        // or a Recording, where the contract says so
 *     client.send(result.upload)
 */
package dev.sfumato.core

import kotlin.math.log2

/** Milliseconds of each step: fitting the picture ([pre]), the [network], noise and draw ([sampler]), and [encode]. */
public data class StageTimes(val pre: Double, val network: Double, val sampler: Double, val encode: Double)

/** The only thing that leaves the phone: [content], to be sent with the content type of its [encoding]. */
public class Upload(public val content: ByteArray, public val encoding: Encoding)

/** One perturbed photo. Everything but [upload] stays on the phone. */
public class Perturbed internal constructor(
    /** What the network saw. */
    public val input: Picture,
    /** How uncertain each pixel of the upload is, one byte each: bright where there is only noise; null in answer mode. */
    public val noiseMap: ByteArray?,
    /** The upload, or its code word, as a picture. */
    public val drawn: Picture,
    /** What may be sent. */
    public val upload: Upload,
    /** How long each step took. */
    public val times: StageTimes,
    /** Most bits of the photo that this draw can carry: its exact rate, for N words log2 N; null where this app cannot compute it. */
    public val rateBits: Double?,
    /** What the ledger remembers of this draw. */
    public val draw: ByteArray,
    /**
     * The photo looks like none of those that the model was made for, so its answer means nothing; null: the export does not say what
     * they look like.
     */
    public val unlike: Boolean?,
    /** In answer mode alone. */
    public val word: CodeWord? = null,
)

/**
 * Perturbs photos with one loaded network. Not safe for several threads.
 *
 * The network's tensors must be those of the contract. The encoding is the contract's; a code word may also travel as its image
 * ([Encoding.PNG]). The last argument is a clock in nanoseconds.
 */
public class Perturber(
    private val bundle: Bundle,
    private val network: LocalNetwork,
    private val keys: DeviceKeys,
    private val encoding: Encoding = bundle.contract.encoding,
    private val nanoTime: () -> Long = System::nanoTime,
) {
    private val contract = bundle.contract
    private val noiseBytes = contract.code?.noiseBytes ?: contract.channel.noiseBytes(contract.samples)

    init {
        checkTensors(contract, network)
        if ((encoding == Encoding.INDEX) != (contract.code != null)) {
            throw SfumatoException("this export sends ${if (contract.code == null) "no indices" else "indices and nothing else"}")
        }
        if (encoding == Encoding.WORD && bundle.code == null) throw SfumatoException("this export sends pictures, which have no code words")
    }

    /** Perturb an upright photo or a camera's frame of any size, at the [strength] of one of the contract's points. */
    public fun perturb(photo: Photo, strength: Int = FULL_STRENGTH): Perturbed {
        if (contract.sound) throw SfumatoException("this export takes recordings, not photos")
        return perturb(strength) { photo.fit(contract.height, contract.width) }
    }

    /** Perturb a [recording], at the [strength] of one of the contract's points. */
    public fun perturb(recording: Recording, strength: Int = FULL_STRENGTH): Perturbed {
        if (!contract.sound) throw SfumatoException("this export takes photos, not recordings")
        return perturb(strength) { soundPicture(recording, contract.height, contract.width) }
    }

    private fun perturb(strength: Int, prepare: () -> Picture): Perturbed {
        if (strength != FULL_STRENGTH && contract.points.none { it.strength == strength }) {
            val known = contract.points.joinToString { it.strength.toString() }.ifEmpty { "none" }
            throw SfumatoException("this export has no point of strength $strength: it has $known")
        }
        val clock = Clock(nanoTime)
        val input = prepare().let { if (contract.planes == 1) it.grey() else it }
        val pre = clock.lap()
        val q = atStrength(contract.channel, parameters(input), strength, contract.uploadHeight, contract.uploadWidth)
        val ran = clock.lap()
        val noise = noise(input, q)
        if (bundle.code != null) {
            val word = bundle.code.codeWord(q.getValue(Contract.SCORES), noise, contract.keep)
            val drawn = clock.lap()
            val image = wordImage(word.number, word.words, contract.height, contract.width)
            val content = if (encoding == Encoding.WORD) wordBytes(word.number, word.words) else encode(image)
            val times = StageTimes(pre, ran, drawn, clock.lap())
            val most = log2(word.words.toDouble())
            return Perturbed(input, null, shown(image), Upload(content, encoding), times, most, draw(input, q), unlike(input), word)
        }
        val code = contract.code
        val index = code?.draw(q.getValue("p"), noise)
        val levels = if (index == null) sample(contract.channel, input, q, noise, bundle.table) else code.levels(index)
        val sampled = clock.lap()
        val content = index ?: encode(levels)
        val times = StageTimes(pre, ran, sampled, clock.lap())
        val rate = if (code == null) rateBits(contract.channel, q, contract.uploadHeight, contract.uploadWidth) else code.rateBits(q.getValue("p"))
        val map = noiseMap(q, contract.channel)
        return Perturbed(input, map, shown(levels), Upload(content, encoding), times, rate, draw(input, q), unlike(input))
    }

    /** The network's parameter bytes q by output name, of full strength, for a picture of the model's size. */
    internal fun parameters(input: Picture): Map<String, ByteArray> = network.run(flipTopBit(pixels(input))).mapValues { flipTopBit(it.value) }

    private fun pixels(input: Picture): ByteArray = input.bytes(contract.planes)

    private fun noise(input: Picture, q: Map<String, ByteArray>): ByteArray =
        keyedNoise(keys.get(), contract.digest, contract.parameterBytes(q), pixels(input), noiseBytes)

    private fun draw(input: Picture, q: Map<String, ByteArray>): ByteArray =
        drawId(keys.get(), contract.digest, contract.parameterBytes(q), pixels(input))

    private fun unlike(input: Picture): Boolean? = contract.familiar?.unlike(input)

    private fun encode(levels: ByteArray): ByteArray = when (encoding) {
        Encoding.PNG -> encodePng(levels, contract.uploadHeight, contract.uploadWidth, contract.channel)
        Encoding.PACKED -> pack(levels, contract.channel.bits)
        Encoding.WORD, Encoding.INDEX -> error("levels are no word and no index")
    }

    private fun shown(levels: ByteArray): Picture {
        val most = (1 shl contract.channel.bits) - 1
        val bright = ByteArray(levels.size) { (levels[it].unsigned * 255 / most).toByte() }
        val (height, width) = contract.uploadHeight to contract.uploadWidth
        return if (bright.size == height * width) Picture.ofPlane(height, width, bright) else Picture(height, width, bright)
    }
}

/** Milliseconds since the last lap. */
private class Clock(private val nanoTime: () -> Long) {
    private var last = nanoTime()

    fun lap(): Double {
        val now = nanoTime()
        return ((now - last) / 1e6).also { last = now }
    }
}
