import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
    `java-test-fixtures`
    `maven-publish`
}

// dev.sfumato:core:VERSION. The version and what the POM says are pyproject.toml's: tests/android/test_library.py holds them equal.
group = "dev.sfumato"
version = "0.2.0"

java {
    withSourcesJar()
    withJavadocJar()
    sourceCompatibility = JavaVersion.VERSION_11
    targetCompatibility = JavaVersion.VERSION_11
}

kotlin {
    explicitApi() // what is public is meant to be
    compilerOptions {
        jvmTarget = JvmTarget.JVM_11
        allWarningsAsErrors = true
    }
}

dependencies {
    testFixturesImplementation(libs.junit)
    testImplementation(libs.junit)
}

// The app reads its export with these very classes, so they can say before the build whether it is there and whole.
tasks.register<JavaExec>("checkExport") {
    description = "Refuses to build an app without a whole export in its assets."
    classpath = sourceSets.main.get().runtimeClasspath
    mainClass = "dev.sfumato.core.CheckExport"
    args(rootProject.layout.projectDirectory.dir("app/src/main/assets/sfumato").asFile.path)
}

// The comments travel in the sources jar, where editors read them. Here are the pages that explain the library.
tasks.named<Jar>("javadocJar") {
    from(rootProject.file("../docs")) {
        include("kotlin.md", "contract.md", "ledger.md")
    }
}

// The fixtures are for the tests of this project.
val library = components["java"] as AdhocComponentWithVariants
for (variant in listOf("testFixturesApiElements", "testFixturesRuntimeElements")) {
    library.withVariantsFromConfiguration(configurations[variant]) { skip() }
}

// Maven Central also asks for url, scm and developers, which pyproject.toml does not state; whoever publishes there adds them.
publishing {
    publications {
        create<MavenPublication>("core") {
            from(library)
            pom {
                name = "sfumato core"
                description = "Perturb a photo on the phone so that the cloud recognises only what it should"
                licenses {
                    license {
                        name = "Apache-2.0"
                        url = "https://www.apache.org/licenses/LICENSE-2.0.txt"
                        distribution = "repo"
                    }
                }
            }
        }
    }
}
