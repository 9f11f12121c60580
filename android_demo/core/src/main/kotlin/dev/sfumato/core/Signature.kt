/**
 * Whether a contract bears its maker's signature: Ed25519 (RFC 8032), since Android's own comes with version 13 alone.
 *
 *     checkSignature(publicKey, contract, signature)      // throws where it does not
 *
 * Nothing here is secret, so nothing has to take the same time for every value.
 */
package dev.sfumato.core

import java.math.BigInteger
import java.security.MessageDigest

/** The app's own copy of the maker's public key, raw, in base64; `sfumato export --android` puts it there. */
internal const val MAKER_KEY = "maker.key"
internal const val CONTRACT_SIGNATURE = "contract.sig"
internal const val CONTRACT_DIGESTS = "contract.sha256"

private val CONTEXT = "sfumato-contract-signature-v1\u0000".toByteArray(Charsets.US_ASCII)
private const val KEY_BYTES = 32

/** Check [signature], the text of `contract.sig`, over the bytes of a contract with [maker], the text of `maker.key`. */
internal fun checkSignature(maker: ByteArray, contract: ByteArray, signature: ByteArray) {
    val key = fromBase64(maker)
    if (key == null || key.size != KEY_BYTES) throw SfumatoException("$MAKER_KEY is no key: run `sfumato export EXPORT --android` again")
    val given = fromBase64(signature)
    if (given == null || !verify(key, CONTEXT + contract, given)) {
        throw SfumatoException("$CONTRACT_SIGNATURE is not the maker's signature of this contract: do not use the export")
    }
}

/** Whether [signature], 64 bytes, is that of [message] under [key], 32 bytes. */
internal fun verify(key: ByteArray, message: ByteArray, signature: ByteArray): Boolean {
    if (signature.size != 2 * KEY_BYTES) return false
    val public = Point.decode(key) ?: return false
    val first = signature.copyOf(KEY_BYTES)
    val s = littleEndian(signature.copyOfRange(KEY_BYTES, signature.size))
    if (s >= ORDER) return false // else a signature would have several forms
    val digest = MessageDigest.getInstance("SHA-512").run {
        update(first)
        update(key)
        digest(message)
    }
    val h = littleEndian(digest).mod(ORDER)
    return (BASE * s + public.negated() * h).encode().contentEquals(first)
}

private val P = BigInteger.ONE.shiftLeft(255) - BigInteger.valueOf(19)
private val ORDER = BigInteger.ONE.shiftLeft(252) + BigInteger("27742317777372353535851937790883648493")
private val D = (BigInteger.valueOf(-121665) * BigInteger.valueOf(121666).modInverse(P)).mod(P)
private val ROOT = BigInteger.valueOf(2).modPow((P - BigInteger.ONE).shiftRight(2), P)
private val BASE = checkNotNull(Point.decode(ByteArray(KEY_BYTES) { if (it == 0) 0x58 else 0x66 }))

private fun littleEndian(bytes: ByteArray): BigInteger = BigInteger(1, bytes.reversedArray())

/** A point of the curve -x^2 + y^2 = 1 + d x^2 y^2 in extended coordinates: x = X / Z, y = Y / Z, x y = T / Z. */
private class Point(val x: BigInteger, val y: BigInteger, val z: BigInteger, val t: BigInteger) {
    operator fun plus(other: Point): Point {
        val a = ((y - x) * (other.y - other.x)).mod(P)
        val b = ((y + x) * (other.y + other.x)).mod(P)
        val c = (t * D * other.t).shiftLeft(1).mod(P)
        val d = (z * other.z).shiftLeft(1).mod(P)
        val e = b - a
        val f = d - c
        val g = d + c
        val h = b + a
        return Point((e * f).mod(P), (g * h).mod(P), (f * g).mod(P), (e * h).mod(P))
    }

    operator fun times(factor: BigInteger): Point {
        var sum = NEUTRAL
        for (bit in factor.bitLength() - 1 downTo 0) {
            sum += sum
            if (factor.testBit(bit)) sum += this
        }
        return sum
    }

    fun negated() = Point((-x).mod(P), y, z, (-t).mod(P))

    fun encode(): ByteArray {
        val inverse = z.modInverse(P)
        val flat = (x * inverse).mod(P)
        val bytes = (y * inverse).mod(P).toByteArray().reversedArray().copyOf(KEY_BYTES)
        if (flat.testBit(0)) bytes[KEY_BYTES - 1] = (bytes[KEY_BYTES - 1].toInt() or 0x80).toByte()
        return bytes
    }

    companion object {
        val NEUTRAL = Point(BigInteger.ZERO, BigInteger.ONE, BigInteger.ONE, BigInteger.ZERO)

        fun decode(bytes: ByteArray): Point? {
            val odd = bytes[KEY_BYTES - 1] < 0
            val y = littleEndian(bytes).clearBit(255)
            if (y >= P) return null
            val square = y * y
            val wanted = ((square - BigInteger.ONE) * (D * square + BigInteger.ONE).modInverse(P)).mod(P)
            var x = wanted.modPow((P + BigInteger.valueOf(3)).shiftRight(3), P)
            if ((x * x).mod(P) != wanted) x = (x * ROOT).mod(P)
            if ((x * x).mod(P) != wanted || (x.signum() == 0 && odd)) return null
            if (x.testBit(0) != odd) x = P - x
            return Point(x, y, BigInteger.ONE, (x * y).mod(P))
        }
    }
}

private const val ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

/** Bytes of a text in base64; null if it is none. Java's own comes with Android 8. */
private fun fromBase64(text: ByteArray): ByteArray? {
    val trimmed = text.toString(Charsets.US_ASCII).trim()
    val digits = trimmed.trimEnd('=')
    if (trimmed.length % 4 != 0 || trimmed.length - digits.length > 2 || digits.any { it !in ALPHABET }) return null
    val out = ByteArray(digits.length * 6 / 8)
    var held = 0
    var bits = 0
    var at = 0
    for (digit in digits) {
        held = (held shl 6 or ALPHABET.indexOf(digit)) and 0xffff
        bits += 6
        if (bits >= 8) {
            bits -= 8
            out[at++] = (held shr bits).toByte()
        }
    }
    return out
}
