package dev.sfumato.core

import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

/** The first three vectors of RFC 8032, section 7.1. */
class SignatureTest {
    private val cases = listOf(
        Triple(
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        Triple(
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        Triple(
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    )

    @Test
    fun knownSignaturesAreTaken() {
        for ((key, message, signature) in cases) {
            assertTrue(verify(key.hexToByteArray(), message.hexToByteArray(), signature.hexToByteArray()))
        }
    }

    @Test
    fun anyChangedBitIsRefused() {
        val (key, message, signature) = cases[2].let { Triple(it.first.hexToByteArray(), it.second.hexToByteArray(), it.third.hexToByteArray()) }
        fun flipped(bytes: ByteArray, bit: Int) = bytes.copyOf().also { it[bit / 8] = (it[bit / 8].toInt() xor (1 shl bit % 8)).toByte() }
        for (bit in 0 until 512 step 37) assertFalse(verify(key, message, flipped(signature, bit)))
        for (bit in 0 until 256 step 37) assertFalse(verify(flipped(key, bit), message, signature))
        for (bit in 0 until 16) assertFalse(verify(key, flipped(message, bit), signature))
        assertFalse(verify(key, message, signature.copyOf(63)))
    }
}
