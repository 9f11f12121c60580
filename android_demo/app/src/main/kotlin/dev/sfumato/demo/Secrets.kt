/**
 * Secrets of this phone: 32 bytes of device key and the server's token, each encrypted with a key that never leaves the Android
 * Keystore, in a folder that is never backed up.
 *
 * Keyed noise derives its cipher's key from the device key's bytes, which a Keystore key does not give away; so the Keystore wraps
 * them instead of being them. A copy of the file is of no use on another phone.
 */
package dev.sfumato.demo

import android.content.SharedPreferences
import android.security.NetworkSecurityPolicy
import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import dev.sfumato.core.DeviceKey
import dev.sfumato.core.DeviceKeys
import dev.sfumato.core.SfumatoException
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.security.KeyStore
import java.security.SecureRandom
import javax.crypto.Cipher
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import javax.crypto.spec.GCMParameterSpec

/** One secret in one file of a [folder] that is never backed up. */
class SecretFile(folder: File, private val name: String) {
    private val file = File(folder, name)
    private val scratch = File(folder, "$name.new")

    /** The secret; null if there is none. */
    fun read(): ByteArray? {
        if (!file.exists()) return null
        val encrypted = try {
            file.readBytes()
        } catch (error: IOException) {
            throw SfumatoException("the secret $name cannot be read (${error.reason}): try again, or reset it")
        }
        if (encrypted.size <= IV_BYTES) throw SfumatoException("the secret $name is damaged: reset it")
        return orWhyNot("cannot be read any more: reset it") {
            val parameters = GCMParameterSpec(TAG_BITS, encrypted, 0, IV_BYTES)
            cipher(Cipher.DECRYPT_MODE, parameters).doFinal(encrypted, IV_BYTES, encrypted.size - IV_BYTES)
        }
    }

    /** The file is the old one or the new one at any time, on a full disk too. */
    fun write(secret: ByteArray) {
        val encrypted = orWhyNot("cannot be stored") {
            val cipher = cipher(Cipher.ENCRYPT_MODE, null)
            cipher.iv + cipher.doFinal(secret)
        }
        try {
            FileOutputStream(scratch).use {
                it.write(encrypted)
                it.fd.sync() // a disk without room for it says so here, and nowhere later
            }
            if (!scratch.renameTo(file)) throw IOException("${scratch.name} cannot be renamed")
        } catch (error: IOException) {
            scratch.delete()
            throw SfumatoException("the secret $name cannot be stored (${error.reason}): make room on this phone and try again")
        }
    }

    fun delete() {
        if (!file.delete() && file.exists()) throw SfumatoException("the secret $name cannot be deleted: try again")
    }

    private fun cipher(mode: Int, parameters: GCMParameterSpec?): Cipher =
        Cipher.getInstance("AES/GCM/NoPadding").apply { init(mode, wrappingKey(), parameters) }

    private fun orWhyNot(problem: String, work: () -> ByteArray): ByteArray = try {
        work()
    } catch (error: Exception) { // a broken Keystore throws more than its methods declare
        throw SfumatoException("the secret $name $problem (${error.reason})")
    }

    private fun wrappingKey(): SecretKey {
        val store = KeyStore.getInstance(STORE).apply { load(null) }
        (store.getKey(ALIAS, null) as SecretKey?)?.let { return it }
        val purposes = KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT
        val spec = KeyGenParameterSpec.Builder(ALIAS, purposes)
            .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
            .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
            .setKeySize(256)
            .build()
        return KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, STORE).apply { init(spec) }.generateKey()
    }

    private companion object {
        const val STORE = "AndroidKeyStore"
        const val ALIAS = "sfumato"
        const val IV_BYTES = 12
        const val TAG_BITS = 128
    }
}

/** The device key in a [SecretFile], made on first use. */
class KeystoreDeviceKeys(private val file: SecretFile) : DeviceKeys {
    private var known: DeviceKey? = null

    @Synchronized
    override fun get(): DeviceKey = known ?: DeviceKey(file.read() ?: made()).also { known = it }

    @Synchronized
    override fun reset() {
        file.delete()
        known = null
    }

    private fun made(): ByteArray = ByteArray(DeviceKey.BYTES).also { SecureRandom().nextBytes(it) }.also(file::write)
}

/** The server's address in the preferences, its token in a [SecretFile]. */
class StoredServerSettings(
    private val preferences: SharedPreferences,
    private val tokenFile: SecretFile,
    private val clearText: (String) -> Boolean = { NetworkSecurityPolicy.getInstance().isCleartextTrafficPermitted(it) },
) : ServerSettings {
    /** Without an address of the user's: the development server, in builds that may speak to it. */
    override var server: String
        get() = preferences.getString("address", null) ?: if (allowsClearText(LOOPBACK)) "http://$LOOPBACK:8080" else ""
        set(value) = preferences.edit().putString("address", value).apply()

    /** A token that cannot be read any more is none: it is typed in again. */
    override var token: String?
        get() = try {
            tokenFile.read()?.decodeToString()
        } catch (error: SfumatoException) {
            null
        }
        set(value) = if (value == null) tokenFile.delete() else tokenFile.write(value.encodeToByteArray())

    override fun allowsClearText(host: String) = clearText(host)

    override fun agreedTo(server: String) = server == preferences.getString("agreed", null)

    override fun agreeTo(server: String) = preferences.edit().putString("agreed", server).apply()

    override fun withdraw() = preferences.edit().putString("agreed", null).apply()

    private companion object {
        const val LOOPBACK = "127.0.0.1"
    }
}
