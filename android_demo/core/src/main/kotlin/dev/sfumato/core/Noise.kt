/**
 * Keyed noise, version 1 (docs/contract.md): the same photo on the same device always gets the same noise, so repeated uploads
 * cannot be averaged, and nobody without the device key can predict it.
 *
 *     val noise = keyedNoise(key, picture.rgb, contract.channel.noiseBytes(picture.rgb.size))
 */
package dev.sfumato.core

import java.security.MessageDigest
import javax.crypto.Cipher
import javax.crypto.Mac
import javax.crypto.spec.IvParameterSpec
import javax.crypto.spec.SecretKeySpec

private const val HMAC = "HmacSHA256"
private val LABEL = "sfumato-noise-v1".encodeToByteArray()
private val INFO = "noise".encodeToByteArray()

/** The secret of one device: 32 bytes that are never sent and never printed. */
class DeviceKey(bytes: ByteArray) {
    internal val bytes = bytes.copyOf()

    init {
        if (bytes.size != BYTES) throw SfumatoException("a device key has $BYTES bytes, not ${bytes.size}")
    }

    override fun toString() = "DeviceKey"

    companion object {
        const val BYTES = 32
    }
}

/** Where the device key lives. */
interface DeviceKeys {
    /** The key of this device, made on first use. */
    fun get(): DeviceKey

    /** Forget the key: photos perturbed from now on share nothing with earlier uploads. */
    fun reset()
}

/** SHA-256 of the H * W * 3 bytes as they are fed to the model. */
fun imageHash(pixels: ByteArray): ByteArray = MessageDigest.getInstance("SHA-256").digest(pixels)

/** The key of the cipher: HKDF-SHA256 of the device key, one block. */
internal fun streamKey(key: DeviceKey): ByteArray {
    val extracted = hmac(ByteArray(DeviceKey.BYTES), key.bytes)
    return hmac(extracted, INFO + 1)
}

/** The initial counter block that belongs to an image hash: 16 bytes. */
internal fun streamIv(key: DeviceKey, digest: ByteArray): ByteArray = hmac(key.bytes, LABEL + digest).copyOf(16)

/** The first [count] keystream bytes for a picture. */
fun keyedNoise(key: DeviceKey, pixels: ByteArray, count: Int): ByteArray {
    val cipher = Cipher.getInstance("AES/CTR/NoPadding")
    val iv = IvParameterSpec(streamIv(key, imageHash(pixels)))
    cipher.init(Cipher.ENCRYPT_MODE, SecretKeySpec(streamKey(key), "AES"), iv)
    return cipher.doFinal(ByteArray(count))
}

internal fun hmac(key: ByteArray, message: ByteArray): ByteArray =
    Mac.getInstance(HMAC).apply { init(SecretKeySpec(key, HMAC)) }.doFinal(message)
