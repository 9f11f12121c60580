package dev.sfumato.demo

import android.content.SharedPreferences
import dev.sfumato.core.SfumatoException
import java.io.File
import java.io.InputStream
import java.io.OutputStream
import java.lang.reflect.Proxy
import java.nio.file.Files
import java.security.Key
import java.security.KeyStoreSpi
import java.security.Provider
import java.security.Security
import java.security.cert.Certificate
import java.util.Collections
import java.util.Date
import java.util.Enumeration
import javax.crypto.spec.SecretKeySpec
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Real files, Java's own AES-GCM, and a key store of one key in place of the phone's. */
class DemoSecretsTest {
    @get:Rule
    val folder = TemporaryFolder()

    private fun secret(name: String = "device.key", where: File = folder.root) = SecretFile(where, name)

    private fun refusal(work: () -> Unit): String = assertThrows(SfumatoException::class.java) { work() }.message.orEmpty()

    /** /dev/full takes no byte: the disk is full as soon as something is written. */
    private fun fillDisk(name: String) {
        val full = File("/dev/full")
        assumeTrue("no /dev/full", full.exists())
        Files.createSymbolicLink(File(folder.root, "$name.new").toPath(), full.toPath())
    }

    @Before
    fun addKeystore() {
        Security.addProvider(OneKeyProvider)
    }

    @After
    fun removeKeystore() = Security.removeProvider(OneKeyProvider.name)

    @Test
    fun aSecretIsReadAsItWasWritten() {
        assertEquals(null, secret().read())
        secret().write(byteArrayOf(1, 2, 3))
        assertArrayEquals(byteArrayOf(1, 2, 3), secret().read())
        assertEquals(listOf("device.key"), folder.root.list()?.toList())
        secret().delete()
        assertEquals(null, secret().read())
        secret().delete()
    }

    @Test
    fun aFullDiskIsSaidLeavesNothingHalfWrittenAndTheNextTryWorks() {
        fillDisk("device.key")
        val keys = KeystoreDeviceKeys(secret())
        val said = refusal { keys.get() }
        assertTrue(said, said.startsWith("the secret device.key cannot be stored (") && said.endsWith("): make room on this phone and try again"))
        assertEquals(emptyList<String>(), folder.root.list()?.toList())
        val made = keys.get()
        assertTrue(made === keys.get())
        assertEquals(32, secret().read()?.size)
    }

    @Test
    fun aFullDiskLeavesTheSecretOfBefore() {
        secret("server.token").write("old".encodeToByteArray())
        fillDisk("server.token")
        refusal { secret("server.token").write("new".encodeToByteArray()) }
        assertEquals("old", secret("server.token").read()?.decodeToString())
        secret("server.token").write("new".encodeToByteArray())
        assertEquals("new", secret("server.token").read()?.decodeToString())
    }

    @Test
    fun aFolderThatCannotBeWrittenIsSaid() {
        val missing = File(folder.root, "missing")
        val keys = KeystoreDeviceKeys(secret(where = missing))
        refusal { keys.get() }
        missing.mkdir()
        keys.get()
    }

    @Test
    fun aFileThatCannotBeReadOrDeletedIsNoNewSecret() {
        File(folder.root, "device.key/in the way").mkdirs()
        assertTrue(refusal { secret().read() }.endsWith("try again, or reset it"))
        assertTrue(refusal { KeystoreDeviceKeys(secret()).reset() }.endsWith("cannot be deleted: try again"))
    }

    @Test
    fun onlyABuildThatMaySpeakToTheDevelopmentServerAsksIt() {
        for ((allowed, expected) in listOf(true to "http://127.0.0.1:8080", false to "")) {
            val settings = StoredServerSettings(preferences(null), secret("server.token")) { allowed }
            assertEquals(expected, settings.server)
            val stored = StoredServerSettings(preferences("https://photos.example"), secret("server.token")) { allowed }
            assertEquals("https://photos.example", stored.server)
        }
    }

    @Test
    fun consentIsStoredAndIsToOneServer() {
        val stored = mutableMapOf<String, String?>()
        fun settings() = StoredServerSettings(preferences(stored), secret("server.token")) { false }
        assertFalse(settings().agreedTo("https://photos.example"))
        settings().agreeTo("https://photos.example")
        assertEquals(listOf(true, false), listOf("https://photos.example", "https://other.example").map(settings()::agreedTo))
        settings().withdraw()
        assertFalse(settings().agreedTo("https://photos.example"))
    }

    @Test
    fun whatWasSentIsKeptEncryptedBoundedAndNewestFirst() {
        val history = StoredHistory(secret("history"))
        assertEquals(emptyList<Sent>(), history.read())
        for (i in 1..60) history.add(Sent(i.toLong(), "photos.example", if (i % 2 == 0) i + .5 else null, "smiling: yes"))
        val kept = StoredHistory(secret("history")).read() // after a restart
        assertEquals((60 downTo 11).map(Int::toLong), kept.map(Sent::millis))
        assertEquals(listOf(Sent(60, "photos.example", 60.5, "smiling: yes"), Sent(59, "photos.example", null, "smiling: yes")), kept.take(2))
        assertFalse("smiling" in File(folder.root, "history").readText(Charsets.ISO_8859_1))
        history.delete()
        assertEquals(emptyList<String>(), folder.root.list()?.toList())
        assertEquals(emptyList<Sent>(), history.read())
    }

    @Test
    fun noAnswerBreaksTheList() {
        val history = StoredHistory(secret("history"))
        history.add(Sent(1, "a", 1.0, "a\tb\nc"))
        assertEquals(listOf(Sent(1, "a", 1.0, "a b c")), history.read())
    }

    @Test
    fun onePictureIsSharedAndTheOneBeforeIsGone() {
        val shared = File(folder.root, "shared")
        keepShared(shared, byteArrayOf(1)).renameTo(File(shared, "old.png"))
        val file = keepShared(shared, byteArrayOf(2))
        assertEquals(listOf(file), shared.listFiles()?.toList())
        assertArrayEquals(byteArrayOf(2), file.readBytes())
    }

    /** Preferences that hold what they are given. */
    private fun preferences(stored: MutableMap<String, String?>): SharedPreferences {
        val editor = Proxy.newProxyInstance(javaClass.classLoader, arrayOf(SharedPreferences.Editor::class.java)) { self, method, given ->
            if (method.name == "putString") self.also { stored[given[0] as String] = given[1] as String? } else null
        } as SharedPreferences.Editor
        return Proxy.newProxyInstance(javaClass.classLoader, arrayOf(SharedPreferences::class.java)) { _, method, given ->
            if (method.name == "edit") editor else stored[given[0] as String] ?: given[1]
        } as SharedPreferences
    }

    private fun preferences(address: String?) = Proxy.newProxyInstance(
        javaClass.classLoader, arrayOf(SharedPreferences::class.java),
    ) { _, method, _ -> check(method.name == "getString").let { address } } as SharedPreferences
}

private object OneKeyProvider : Provider("OneKey", "1", "a key store of one key") {
    private fun readResolve(): Any = OneKeyProvider

    init {
        put("KeyStore.AndroidKeyStore", OneKeyStore::class.java.name)
    }
}

class OneKeyStore : KeyStoreSpi() {
    override fun engineGetKey(alias: String, password: CharArray?): Key = SecretKeySpec(ByteArray(32) { 9 }, "AES")

    override fun engineLoad(stream: InputStream?, password: CharArray?) = Unit

    override fun engineStore(stream: OutputStream?, password: CharArray?) = Unit

    override fun engineGetCertificateChain(alias: String): Array<Certificate>? = null

    override fun engineGetCertificate(alias: String): Certificate? = null

    override fun engineGetCreationDate(alias: String): Date? = null

    override fun engineSetKeyEntry(alias: String, key: Key, password: CharArray?, chain: Array<Certificate>?) = Unit

    override fun engineSetKeyEntry(alias: String, key: ByteArray, chain: Array<Certificate>?) = Unit

    override fun engineSetCertificateEntry(alias: String, certificate: Certificate) = Unit

    override fun engineDeleteEntry(alias: String) = Unit

    override fun engineAliases(): Enumeration<String> = Collections.enumeration(listOf("sfumato"))

    override fun engineContainsAlias(alias: String) = true

    override fun engineSize() = 1

    override fun engineIsKeyEntry(alias: String) = true

    override fun engineIsCertificateEntry(alias: String) = false

    override fun engineGetCertificateAlias(certificate: Certificate): String? = null
}
