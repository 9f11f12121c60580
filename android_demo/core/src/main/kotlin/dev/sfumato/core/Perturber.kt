/**
 * What the phone does to one photo: fit, network, keyed noise, draw, encode, each step timed.
 *
 *     val perturber = Perturber(bundle, network, keys)
 *     val result = perturber.perturb(picture)
 *     client.send(result.upload)
 */
package dev.sfumato.core

/** Milliseconds of each step. */
data class StageTimes(val pre: Double, val network: Double, val sampler: Double, val encode: Double)

/** The only thing that leaves the phone. */
class Upload(val content: ByteArray, val encoding: Encoding)

/** One perturbed photo. Everything but [upload] stays on the phone. */
class Perturbed(
    val input: Picture,
    /** How uncertain each pixel of the upload is, one byte each: bright where there is only noise. */
    val noiseMap: ByteArray,
    /** The upload as a picture. */
    val drawn: Picture,
    val upload: Upload,
    val times: StageTimes,
    /** Exact rate of this draw; null where this app cannot compute it. */
    val rateBits: Double?,
)

/** Perturbs photos with one loaded network. Not safe for several threads. */
class Perturber(
    private val bundle: Bundle,
    private val network: LocalNetwork,
    private val keys: DeviceKeys,
    private val nanoTime: () -> Long = System::nanoTime,
) {
    private val contract = bundle.contract

    init {
        checkTensors(contract, network)
    }

    /** Perturb an upright photo of any size. */
    fun perturb(photo: Picture): Perturbed {
        val clock = Clock(nanoTime)
        val input = photo.fit(contract.height, contract.width)
        val pre = clock.lap()
        val q = parameters(input)
        val ran = clock.lap()
        val noise = noise(input, q)
        val levels = sample(contract.channel, input, q, noise, bundle.table)
        val sampled = clock.lap()
        val content = encode(levels)
        val times = StageTimes(pre, ran, sampled, clock.lap())
        val rate = if (contract.channel is Channel.Dither) ditherRateBits(q.getValue("p")) else null
        return Perturbed(input, noiseMap(q, contract.channel), shown(levels), Upload(content, contract.encoding), times, rate)
    }

    /** Parameter bytes q by output name, for a picture of the model's size. */
    fun parameters(input: Picture): Map<String, ByteArray> = network.run(flipTopBit(input.rgb)).mapValues { flipTopBit(it.value) }

    private fun noise(input: Picture, q: Map<String, ByteArray>): ByteArray =
        keyedNoise(keys.get(), contract.digest, contract.parameterBytes(q), input.rgb, contract.channel.noiseBytes(input.rgb.size))

    private fun encode(levels: ByteArray): ByteArray = when (contract.encoding) {
        Encoding.PNG -> encodePng(levels, contract.height, contract.width, contract.channel.bits)
        Encoding.WORD -> throw SfumatoException("this app sends no words yet: update the app")
        Encoding.PACKED -> pack(levels, contract.channel.bits)
    }

    private fun shown(levels: ByteArray): Picture {
        val most = (1 shl contract.channel.bits) - 1
        return Picture(contract.height, contract.width, ByteArray(levels.size) { (levels[it].unsigned * 255 / most).toByte() })
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
