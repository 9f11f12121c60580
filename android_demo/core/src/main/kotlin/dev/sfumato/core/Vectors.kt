/**
 * vectors.json: known answers that Python, Kotlin and JavaScript must all give, byte for byte (docs/contract.md).
 *
 * The app asks every network it loads for the answers to the model's pictures: a delegate that computes something else is shown.
 *
 *     val difference = bundle.vectors.largestDifference(perturber, contract)
 */
package dev.sfumato.core

import java.security.MessageDigest
import kotlin.io.encoding.Base64

/** One picture through the shipped int8 model. */
internal class ModelCase(
    val pattern: String,
    val imageSha256: String,
    val key: DeviceKey,
    /** Stands in for the digest of contract.json, which lists the file of this case. */
    val contract: ByteArray,
    val parameters: Map<String, ByteArray>,
    val noiseSha256: String,
    val uploadPacked: ByteArray,
    val rateBits: Double,
    /** At which noise, upload and rate were made from [parameters], which are of full strength. */
    val strength: Int,
)

/** Known answers of an export; [root] holds the cases of noise, sampler and upload for tests, [points] one case for each of the contract's. */
public class Vectors internal constructor(
    internal val root: JsonObject,
    internal val model: List<ModelCase>,
    internal val points: List<ModelCase>,
) {
    /** By how many 1/256 the network's bytes differ from the stored ones, at most, over all pictures. */
    public fun largestDifference(perturber: Perturber, contract: Contract): Int = model.maxOf { case ->
        val found = perturber.parameters(pattern(case.pattern, contract))
        case.parameters.maxOf { (name, expected) ->
            val bytes = found.getValue(name)
            if (bytes.size != expected.size) throw SfumatoException("$FILE was made for another model: export again")
            expected.indices.maxOf { Math.abs(bytes[it].unsigned - expected[it].unsigned) }
        }
    }

    internal companion object {
        const val FILE = "vectors.json"
        private const val SCHEMA = "sfumato-vectors/2"

        fun parse(content: ByteArray): Vectors {
            val root = parseJson(content, FILE).asObject(FILE)
            if (root.text("schema") != SCHEMA) throw SfumatoException("$FILE does not have the schema $SCHEMA: update the app")
            val model = root.children("model").map(::readCase)
            if (model.isEmpty()) throw SfumatoException("$FILE holds no answers of the model: export again")
            return Vectors(root, model, root.childrenOrNull("points").orEmpty().map(::readCase))
        }

        private fun readCase(case: JsonObject): ModelCase {
            val parameters = case.child("parameters")
            return try {
                ModelCase(
                    case.text("pattern"),
                    case.text("image_sha256"),
                    DeviceKey(case.text("key").hexToByteArray()),
                    case.text("contract").hexToByteArray(),
                    parameters.keys.associateWith { Base64.decode(parameters.text(it)) },
                    case.text("noise_sha256"),
                    Base64.decode(case.text("upload_packed")),
                    case.number("rate_bits"),
                    if ("strength" in case) case.int("strength") else FULL_STRENGTH,
                )
            } catch (error: IllegalArgumentException) {
                throw SfumatoException("$FILE is damaged: export again")
            }
        }
    }
}

/** A made-up picture of the model's size; a model of grey pictures takes the red plane. */
internal fun pattern(name: String, contract: Contract): Picture {
    val picture = pattern(name, contract.height, contract.width)
    return if (contract.planes == 3) picture else Picture.ofPlane(picture.height, picture.width, picture.bytes(1))
}

/** The made-up pictures of the vectors, by name. */
internal fun pattern(name: String, height: Int, width: Int): Picture {
    if (name == "grain") return Picture(height, width, grain(height * width * 3))
    val value: (Int, Int, Int) -> Int = when (name) {
        "black" -> { _, _, _ -> 0 }
        "white" -> { _, _, _ -> 255 }
        "ramp" -> { y, x, c -> (4 * x + 2 * y + 85 * c) % 256 }
        "checks" -> { y, x, c -> if ((x / 4 + y / 4 + c) % 2 == 1) 255 else 0 }
        else -> throw SfumatoException("${Vectors.FILE} asks for a picture '$name' that this app does not know: update the app")
    }
    return Picture(height, width, ByteArray(height * width * 3) { i -> value(i / 3 / width, i / 3 % width, i % 3).toByte() })
}

/** Byte i is byte i mod 32 of SHA-256 over floor(i / 32) as eight big-endian bytes. */
private fun grain(count: Int): ByteArray {
    val out = ByteArray(count)
    val digest = MessageDigest.getInstance("SHA-256")
    for (start in 0 until count step 32) {
        val block = start / 32L
        val hash = digest.digest(ByteArray(8) { (block shr (56 - 8 * it)).toByte() })
        hash.copyInto(out, start, 0, minOf(32, count - start))
    }
    return out
}
