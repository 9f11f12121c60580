/**
 * Keyed noise, version 2 (docs/contract.md): an upload that is made again is the same upload, so nothing can be averaged; under
 * another contract, or with other parameters, the noise is independent; and nobody without the device key can predict it.
 *
 *     val noise = keyedNoise(key, contract.digest, contract.parameterBytes(q), picture.rgb, contract.channel.noiseBytes(samples))
 */
package dev.sfumato.core

import java.security.MessageDigest
import javax.crypto.Cipher
import javax.crypto.Mac
import javax.crypto.spec.IvParameterSpec
import javax.crypto.spec.SecretKeySpec

private const val HMAC = "HmacSHA256"
private val LABEL = "sfumato-noise-v2".encodeToByteArray()
private const val DIGEST_BYTES = 32
private val INFO = "noise".encodeToByteArray()
private val SERVICE_LABEL = "sfumato-service-key-v1\u0000".encodeToByteArray()

/** The secret of one device: 32 bytes that are never sent and never printed. */
public class DeviceKey(bytes: ByteArray) {
    internal val bytes = bytes.copyOf()

    init {
        if (bytes.size != BYTES) throw SfumatoException("a device key has $BYTES bytes, not ${bytes.size}")
    }

    /** The key for one service, by its name in the ledger: what it tells that service tells nothing about any other key. */
    public fun forService(service: String): DeviceKey = DeviceKey(derived(this, SERVICE_LABEL + service.encodeToByteArray()))

    override fun toString(): String = "DeviceKey"

    public companion object {
        /** Length of a key. */
        public const val BYTES: Int = 32
    }
}

/** Where the device key lives. */
public interface DeviceKeys {
    /** The key of this device, made on first use. */
    public fun get(): DeviceKey

    /** Forget the key: photos perturbed from now on share nothing with earlier uploads. */
    public fun reset()
}

/**
 * The keys of one device for whatever [service] names when a photo is perturbed: two services never share a draw. Draw anew what
 * is to be sent to another service.
 */
public class ServiceKeys(private val keys: DeviceKeys, private val service: () -> String) : DeviceKeys {
    override fun get(): DeviceKey = keys.get().forService(service())

    override fun reset(): Unit = keys.reset()
}

/** SHA-256 of the H * W * 3 bytes as they are fed to the model. */
internal fun imageHash(pixels: ByteArray): ByteArray = hash(pixels)

/** The bytes q of every output, one output after the other, in the order of the contract. */
internal fun Contract.parameterBytes(q: Map<String, ByteArray>): ByteArray =
    outputs.fold(ByteArray(0)) { joined, tensor -> joined + q.getValue(tensor.name) }

/** The key of the cipher: HKDF-SHA256 of the device key, one block. */
internal fun streamKey(key: DeviceKey): ByteArray = derived(key, INFO)

/** HKDF-SHA256 without a salt, one block: 32 bytes. */
private fun derived(key: DeviceKey, info: ByteArray): ByteArray = hmac(hmac(ByteArray(DeviceKey.BYTES), key.bytes), info + 1)

/** The initial counter block that belongs to the digests of contract, parameters and pixels: 16 bytes. */
internal fun streamIv(key: DeviceKey, contract: ByteArray, parameters: ByteArray, image: ByteArray): ByteArray {
    for (digest in listOf(contract, parameters, image)) {
        if (digest.size != DIGEST_BYTES) throw SfumatoException("a SHA-256 digest has $DIGEST_BYTES bytes, not ${digest.size}")
    }
    return hmac(key.bytes, LABEL + contract + parameters + image).copyOf(16)
}

/**
 * The first [count] keystream bytes for one upload.
 *
 * [contract] is the SHA-256 of contract.json, [parameters] are the bytes q that the network gave for the [pixels].
 */
internal fun keyedNoise(key: DeviceKey, contract: ByteArray, parameters: ByteArray, pixels: ByteArray, count: Int): ByteArray {
    val cipher = Cipher.getInstance("AES/CTR/NoPadding")
    val iv = IvParameterSpec(streamIv(key, contract, hash(parameters), imageHash(pixels)))
    cipher.init(Cipher.ENCRYPT_MODE, SecretKeySpec(streamKey(key), "AES"), iv)
    return cipher.doFinal(ByteArray(count))
}

internal fun hash(content: ByteArray): ByteArray = MessageDigest.getInstance("SHA-256").digest(content)

internal fun hmac(key: ByteArray, message: ByteArray): ByteArray =
    Mac.getInstance(HMAC).apply { init(SecretKeySpec(key, HMAC)) }.doFinal(message)
